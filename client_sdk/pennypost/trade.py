"""What is bought and sold with letters: functions on a transaction of store.py.

    invoices    what others pay us        open ─▶ held ─▶ settled · over       claimed_by: the one message it paid for
    offers      what we may buy           new ─▶ taken ─▶ read · garbage
    asks        messages of ours to pay   asking ─▶ paying ─▶ paid ─▶ sent · over        a key (`once`): for a year
    requests    what others ask us        open ─▶ answered · refused                     the answer before it is posted

Amounts are in msat, times in Unix seconds. What strangers fill is bounded: OPEN rows, and what is over is deleted.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from typing import Final, Literal

from pennypost.letters import ONCE_FOR, Note
from pennypost.lightning import Made
from pennypost.mail import Receipt
from pennypost.protocol.errors import OnceUsed
from pennypost.protocol.event import Event, event_json, parse_event
from pennypost.protocol.invoice_request import InvoiceAnswer, InvoiceRequest, Proof, proves_payment
from pennypost.protocol.offer import Offer, encode_offer

OPEN: Final = 1_000
"""Offers, and requests, of strangers that wait at most; the oldest go first."""
KEPT: Final = 90 * 86_400
"""Seconds that what is over is remembered."""

Purpose = Literal["offer", "message"]


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice of ours: `subject` is the id of the offer or the request, `peer` who pays (64 hex digits each)."""

    payment_hash: bytes
    purpose: Purpose
    subject: str
    peer: str
    msat: int
    request: str
    preimage: bytes | None = field(repr=False)
    hold: bool
    state: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class Ask:
    """A message of ours that is to be paid: `id` is that of the request, `most` what we allow."""

    id: str
    receiver: str
    msat: int
    most: int
    text: str = field(repr=False)
    hold: bool
    keep: int
    state: str
    invoice: str | None
    event: Event | None
    expires_at: int


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody asks for an invoice, to pay for a message: `msat` is what he offers, 0: what we want.

    `receipt` is of the answer, where it was sent just now.
    """

    id: str
    sender: str
    msat: int
    about: str
    expires_at: int
    receipt: Receipt | None = None


# Invoices of ours

_INVOICE = "hash, purpose, subject, peer, msat, request, preimage, hold, state, expires_at"


def add_invoice_on(
    connection: sqlite3.Connection, purpose: Purpose, subject: str, peer: str, msat: int, made: Made, now: int
) -> None:
    """Write an invoice before anybody can pay it. A second one for the same subject is not written."""
    connection.execute(
        "INSERT INTO invoices (hash, purpose, subject, peer, msat, request, preimage, hold, state, expires_at,"
        " created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'open', ?, ?) ON CONFLICT DO NOTHING",
        (
            made.payment_hash,
            purpose,
            subject,
            peer,
            msat,
            made.request,
            made.preimage,
            int(made.hold),
            made.expires_at,
            now,
        ),
    )


def invoice_on(connection: sqlite3.Connection, purpose: Purpose, subject: str) -> Invoice | None:
    """The invoice for an offer or a request of this id."""
    row = connection.execute(
        f"SELECT {_INVOICE} FROM invoices WHERE purpose = ? AND subject = ?", (purpose, subject)
    ).fetchone()
    return _invoice(row) if row else None


def invoices_on(connection: sqlite3.Connection, *, waiting: bool = False) -> list[Invoice]:
    """Our invoices, the oldest first; `waiting`: those whose end is not known yet."""
    where = " WHERE state IN ('open', 'held')" if waiting else ""
    return [
        _invoice(row) for row in connection.execute(f"SELECT {_INVOICE} FROM invoices{where} ORDER BY created_at, hash")
    ]


def _invoice(row: tuple[object, ...]) -> Invoice:
    payment_hash, purpose, subject, peer, msat, request, preimage, hold, state, expires_at = row
    return Invoice(payment_hash, purpose, subject, peer, msat, request, preimage, bool(hold), state, expires_at)  # type: ignore[arg-type]


def state_on(connection: sqlite3.Connection, payment_hash: bytes, state: str) -> None:
    """How an invoice stands; once settled it stays so, and its preimage and ecash are needed no more."""
    connection.execute(
        "UPDATE invoices SET state = ?, preimage = CASE WHEN ? = 'settled' THEN NULL ELSE preimage END"
        " WHERE hash = ? AND state <> 'settled'",
        (state, state, payment_hash),
    )
    if state in ("settled", "over"):
        connection.execute(
            "DELETE FROM locked_tokens WHERE offer = (SELECT subject FROM invoices WHERE hash = ?)", (payment_hash,)
        )


def claim_on(connection: sqlite3.Connection, sender: str, proof: Proof, mail: str) -> int:
    """What a message of this sender was paid with, in msat: 0 where its preimage proves nothing to us.

    One invoice pays for one message (`mail`, its event's id), whoever shows its preimage again. Without a preimage the
    caller has seen that the invoice is settled.
    """
    invoice = invoice_on(connection, "message", proof.request)
    if invoice is None or invoice.peer != sender:
        return 0
    if proof.preimage and not proves_payment(proof, invoice.payment_hash):
        return 0
    claimed = connection.execute(
        "UPDATE invoices SET claimed_by = ?, state = 'settled' WHERE hash = ? AND coalesce(claimed_by, ?) = ?",
        (mail, invoice.payment_hash, mail, mail),
    )
    return invoice.msat if claimed.rowcount == 1 else 0


def add_token_on(connection: sqlite3.Connection, sender: str, offer: str, token: str, now: int) -> None:
    """File ecash that came for a sale of ours, from its buyer; the first stays until it is known to be no good."""
    sale = invoice_on(connection, "offer", offer)
    if sale is not None and sale.peer == sender and sale.state == "open":
        connection.execute(
            "INSERT INTO locked_tokens (offer, token, created_at) VALUES (?, ?, ?) ON CONFLICT (offer) DO NOTHING",
            (offer, token, now),
        )


def token_on(connection: sqlite3.Connection, offer: str) -> str | None:
    """The ecash that came for a sale."""
    row = connection.execute("SELECT token FROM locked_tokens WHERE offer = ?", (offer,)).fetchone()
    return row[0] if row else None


def drop_token_on(connection: sqlite3.Connection, offer: str) -> None:
    """It is not what was asked for: another may come."""
    connection.execute("DELETE FROM locked_tokens WHERE offer = ?", (offer,))


# Offers to us


def add_offer_on(connection: sqlite3.Connection, offer: Offer, now: int) -> None:
    """File an offer; one that is known stays as it is."""
    connection.execute("DELETE FROM offers WHERE state = 'new' AND expires_at < ?", (now,))
    connection.execute(
        "INSERT INTO offers (id, seller, offer, state, expires_at, created_at) VALUES (?, ?, ?, 'new', ?, ?)"
        " ON CONFLICT (id) DO NOTHING",
        (offer.id.hex(), offer.seller.hex(), encode_offer(offer), offer.expires_at, now),
    )
    connection.execute(
        "DELETE FROM offers WHERE state = 'new' AND id NOT IN"
        " (SELECT id FROM offers WHERE state = 'new' ORDER BY created_at DESC, id LIMIT ?)",
        (OPEN,),
    )


def offers_on(connection: sqlite3.Connection, beginning: str = "") -> list[tuple[str, str]]:
    """Offers and their state, the newest first; those whose id begins so."""
    rows = connection.execute(
        "SELECT offer, state FROM offers WHERE substr(id, 1, ?) = ? ORDER BY created_at DESC, id",
        (len(beginning), beginning),
    )
    return rows.fetchall()


def body_on(connection: sqlite3.Connection, offer: str) -> bytes | None:
    """The ciphertext of an offer, where it was fetched."""
    row = connection.execute("SELECT body FROM offers WHERE id = ?", (offer,)).fetchone()
    return row[0] if row else None


def take_offer_on(connection: sqlite3.Connection, offer: str, body: bytes) -> None:
    """Keep the ciphertext, before it is paid for."""
    connection.execute("UPDATE offers SET body = ?, state = 'taken' WHERE id = ? AND state = 'new'", (body, offer))


def end_offer_on(connection: sqlite3.Connection, offer: str, state: str) -> None:
    """What it turned out to be: read, or garbage."""
    connection.execute("UPDATE offers SET state = ? WHERE id = ?", (state, offer))


# Messages of ours that are to be paid

_ASK = "id, receiver, msat, most, text, hold, keep, state, invoice, event, expires_at"


def add_ask_on(connection: sqlite3.Connection, ask: Ask, note: Note, now: int) -> Ask:
    """Write a message that asks for its invoice; what is there already, where another call with its key was faster.

    Raises OnceUsed.
    """
    known = None if note.once is None else keyed_ask_on(connection, note)
    if known is not None:
        return known
    connection.execute(
        "DELETE FROM asks WHERE state IN ('sent', 'over') AND created_at < CASE WHEN once IS NULL THEN ? ELSE ? END",
        (now - KEPT, now - ONCE_FOR),
    )
    connection.execute(
        "INSERT INTO asks (id, receiver, msat, most, text, hold, keep, state, event, expires_at, created_at, once,"
        " digest) VALUES (?, ?, ?, ?, ?, ?, ?, 'asking', ?, ?, ?, ?, ?)",
        (
            ask.id,
            ask.receiver,
            ask.msat,
            ask.most,
            ask.text,
            int(ask.hold),
            ask.keep,
            None if ask.event is None else event_json(ask.event),
            ask.expires_at,
            now,
            note.once,
            note.digest,
        ),
    )
    return ask


def known_ask_on(connection: sqlite3.Connection, note: Note, wanted: tuple[object, ...], now: int) -> Ask | None:
    """The same call made before: by its key, whatever became of it; else one that is not sent yet and is `wanted`:
    receiver, text, msat, hold, keep. Raises OnceUsed for a key that another message had.
    """
    unfinished = unfinished_on(connection, now)
    if note.once is not None:
        return keyed_ask_on(connection, note)
    keyed = {id for (id,) in connection.execute("SELECT id FROM asks WHERE once IS NOT NULL")}
    for each in unfinished:
        if each.id not in keyed and (each.receiver, each.text, each.msat, each.hold, each.keep) == wanted:
            return each
    return None


def keyed_ask_on(connection: sqlite3.Connection, note: Note) -> Ask | None:
    """The message of a key. Raises OnceUsed where it was another."""
    row = connection.execute("SELECT id, digest FROM asks WHERE once = ?", (note.once,)).fetchone()
    if row is None:
        return None
    if row[1] != note.digest:
        raise OnceUsed
    return ask_on(connection, row[0])


def letter_of_ask_on(connection: sqlite3.Connection, id: str) -> str:
    """The id of the event that carries a message; empty where it was never made."""
    row = connection.execute("SELECT coalesce(letter, '') FROM asks WHERE id = ?", (id,)).fetchone()
    return row[0] if row else ""


def ask_on(connection: sqlite3.Connection, id: str) -> Ask | None:
    """The message whose request has this id."""
    row = connection.execute(f"SELECT {_ASK} FROM asks WHERE id = ?", (id,)).fetchone()
    return _ask(row) if row else None


def unfinished_on(connection: sqlite3.Connection, now: int) -> list[Ask]:
    """Messages not sent yet: those that were paid, and those that still may be."""
    connection.execute("UPDATE asks SET state = 'over', once = NULL WHERE state = 'asking' AND expires_at < ?", (now,))
    rows = connection.execute(
        f"SELECT {_ASK} FROM asks WHERE state IN ('asking', 'paying', 'paid') ORDER BY created_at, id"
    )
    return [_ask(row) for row in rows]


def _ask(row: tuple[object, ...]) -> Ask:
    id, receiver, msat, most, text, hold, keep, state, invoice, event, expires_at = row
    read = parse_event(event) if isinstance(event, bytes) else None
    return Ask(id, receiver, msat, most, text, bool(hold), keep, state, invoice, read, expires_at)  # type: ignore[arg-type]


def add_answer_on(connection: sqlite3.Connection, sender: bytes, answer: InvoiceAnswer) -> None:
    """File the invoice for a request of ours; only the one we asked is heard, and only once."""
    connection.execute(
        "UPDATE asks SET invoice = ? WHERE id = ? AND receiver = ? AND invoice IS NULL AND state = 'asking'",
        (answer.invoice, answer.request, sender.hex()),
    )


def step_on(connection: sqlite3.Connection, id: str, state: str, event: Event | None = None) -> None:
    """A message's next step; `event` is the letter to post. What is finished keeps no text, and what was not paid
    sets its key free.
    """
    connection.execute(
        "UPDATE asks SET state = ?, event = coalesce(?, event), letter = coalesce(?, letter) WHERE id = ?",
        (state, *((None, None) if event is None else (event_json(event), event.id)), id),
    )
    if state in ("sent", "over"):
        connection.execute("UPDATE asks SET text = NULL, event = NULL WHERE id = ?", (id,))
    if state == "over":
        connection.execute("UPDATE asks SET once = NULL WHERE id = ?", (id,))


# What others ask us


def add_request_on(connection: sqlite3.Connection, id: str, sender: bytes, request: InvoiceRequest, now: int) -> None:
    """File a request; one that is known stays as it is."""
    connection.execute("DELETE FROM requests WHERE expires_at < ?", (now,))
    if request.expires >= now:
        connection.execute(
            "INSERT INTO requests (id, sender, msat, about, state, expires_at, created_at)"
            " VALUES (?, ?, ?, ?, 'open', ?, ?) ON CONFLICT (id) DO NOTHING",
            (id, sender.hex(), request.msat, request.about, min(request.expires, now + KEPT), now),
        )
        connection.execute(
            "DELETE FROM requests WHERE id NOT IN (SELECT id FROM requests ORDER BY created_at DESC, id LIMIT ?)",
            (OPEN,),
        )


def requests_on(connection: sqlite3.Connection, now: int) -> list[Request]:
    """Requests without an answer, the oldest first."""
    rows = connection.execute(
        "SELECT id, sender, msat, about, expires_at FROM requests WHERE state = 'open' AND expires_at >= ?"
        " ORDER BY created_at, id",
        (now,),
    )
    return [Request(*row) for row in rows]


def answer_on(connection: sqlite3.Connection, id: str, event: Event) -> Event:
    """The letter that answers a request, written before it is posted: that of an earlier try where there was one."""
    row = connection.execute("SELECT event FROM requests WHERE id = ?", (id,)).fetchone()
    if row is not None and row[0] is not None:
        return parse_event(row[0])
    connection.execute("UPDATE requests SET event = ? WHERE id = ?", (event_json(event), id))
    return event


def answered_on(connection: sqlite3.Connection, id: str, state: str) -> None:
    """A request was answered, or refused in silence."""
    connection.execute("UPDATE requests SET state = ?, event = NULL WHERE id = ?", (state, id))


# The place in the feed


def place_on(connection: sqlite3.Connection, office: str, identity: str) -> int:
    """The last number of an office's feed that was filed; an office with another key begins anew."""
    row = connection.execute("SELECT last, identity FROM desks WHERE office = ?", (office,)).fetchone()
    return row[0] if row and row[1] in ("", identity) else 0


def move_on(connection: sqlite3.Connection, office: str, last: int, identity: str) -> None:
    """Everything up to `last` has been filed."""
    connection.execute(
        "INSERT INTO desks (office, last, identity) VALUES (?, ?, ?) ON CONFLICT (office) DO UPDATE"
        " SET last = CASE WHEN identity = excluded.identity THEN max(last, excluded.last) ELSE excluded.last END,"
        " identity = excluded.identity",
        (office, last, identity),
    )
