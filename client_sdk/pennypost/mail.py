"""What a person handles: letters that came, receipts of letters that went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from pennypost.protocol import nip19
from pennypost.protocol.errors import TABLE, PennypostError
from pennypost.protocol.event import KIND_CHAT
from pennypost.protocol.giftwrap import Rumor
from pennypost.protocol.invoice_request import Proof, proof_of
from pennypost.protocol.nip17 import File, file_of, parent_of, subject_of

ACCEPTED: Final = "accepted"
DUPLICATE: Final = "duplicate"
DRY_RUN: Final = "dry-run"
REASON: Final = 300
"""Characters of an office's own words."""

Privacy = Literal["fast", "page", "all"]
"""How much of the office's mail is fetched: `fast` the letters that are ours, `page` the 64 around each of them, `all`
everything. The office sees which bodies are fetched; with `page` not which of 64 was wanted, with `all` nothing."""

Mode = Literal["stealth", "nip17"]
"""How a letter is addressed: `stealth` to a key that nobody but its receiver knows for his, `nip17` to his npub, which
any program with NIP-17 can read, and whoever sees the event can tell."""

_BY_CODE: Final = {each.code: each for each in reversed(TABLE)}


@dataclass(frozen=True, slots=True)
class Mail:
    """A letter, opened."""

    sender: str
    """The writer's npub, proved by the signature inside."""
    text: str
    sent_at: int
    """Unix seconds, as the writer says."""
    kept_until: int
    """Unix seconds; the office deletes it then."""
    id: str
    """The event's id at the office."""
    office: str
    paid_msat: int = 0
    """What was paid with it, in msat, as an invoice of ours shows; 0 without."""
    proof: Proof | None = field(default=None, repr=False)
    """What the writer says of a payment; only `paid_msat` was held against our invoices."""
    address: str = ""
    """In a session: which of the writer's devices it is from, `<npub>#<8 digits>`."""
    mode: Mode = "stealth"
    message_id: str = ""
    """The id of the message inside: what a reply names. Empty in a session."""
    subject: str = ""
    """The conversation's title, where this letter sets one."""
    reply_to: str = ""
    """The `message_id` of the letter that this one answers."""
    file: File | None = None
    """Of a letter that is a file: how to fetch and open it; `text` is its address then. Nothing of it is fetched."""


def is_message(rumor: Rumor) -> bool:
    """Whether a rumor is for a person to read: a text or a file (NIP-17)."""
    return rumor.kind == KIND_CHAT or file_of(rumor) is not None


def mail_of(
    sender: bytes, rumor: Rumor, event_id: str, kept_until: int, office: str, *, mode: Mode = "stealth"
) -> Mail:
    """A message by `sender` (32 bytes, proved by its seal) as a letter; `is_message` has been asked."""
    return Mail(
        nip19.encode_npub(sender),
        rumor.content,
        rumor.created_at,
        kept_until,
        event_id,
        office,
        proof=proof_of(rumor),
        mode=mode,
        message_id=rumor.id,
        subject=subject_of(rumor),
        reply_to=parent_of(rumor),
        file=file_of(rumor),
    )


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an office said to a letter, or the sum of what several said."""

    event_id: str
    office: str
    accepted: bool
    """Whether it is stored there, durably."""
    code: str
    """`accepted`, `duplicate` (it was stored already), `dry-run` (nothing was sent), or the code of the error."""
    stamps: int
    """Stamps it cost, in sat; with `dry-run`, that it would cost."""
    kept_until: int
    """Unix seconds; 0 where it is not kept."""
    reason: str = ""
    """The office's own words, a stranger's text of at most 300 characters; empty where it said nothing."""
    parts: tuple[Receipt, ...] = ()
    """The single receipts, where one call sent several letters."""

    @property
    def relays(self) -> tuple[Receipt, ...]:
        """A receipt for each letter at each office that was asked."""
        return self.parts or (self,)

    @property
    def error(self) -> PennypostError | None:
        """The refusal as an error to raise or to show; None for a letter that was accepted, or not sent (`dry-run`)."""
        return None if self.accepted or self.code == DRY_RUN else _BY_CODE.get(self.code, PennypostError)()


def sum_up(receipts: Sequence[Receipt]) -> Receipt:
    """One receipt for several letters: the first refusal, else the first; stamps of all."""
    if len(receipts) == 1:
        return receipts[0]
    shown = next((each for each in receipts if each.error is not None), receipts[0])
    parts = tuple(part for each in receipts for part in each.relays)
    return replace(shown, stamps=sum(each.stamps for each in receipts), parts=parts)


def sum_offices(receipts: Sequence[Receipt]) -> Receipt:
    """One receipt for one letter at several offices: accepted where one has it; stamps of all, kept the longest."""
    if len(receipts) == 1:
        return receipts[0]
    shown = next((each for each in receipts if each.accepted or each.code == DRY_RUN), receipts[0])
    return replace(
        shown,
        stamps=sum(each.stamps for each in receipts),
        kept_until=max(each.kept_until for each in receipts),
        parts=tuple(receipts),
    )
