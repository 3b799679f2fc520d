"""The journal of swaps at mints elsewhere: functions in the caller's transaction.

    begin_on ▶ row ──┬─ touch_on before each further request     renew_on with other outputs, when none can be signed
                     ├─ end_on, in the transaction that stores the event: proofs in, row gone
                     ├─ drop_on, when it is known that nothing was swapped
                     └─ close_on, when the operator waits no longer (closed.py)

While an event has a row nothing else stores it: `claimed_on` is asked by every commit after its INSERT, and `begin_on`
waits for commits under way by inserting the event itself for a moment. Lock order: … feed < counters < journal < inputs
< treasury.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection, delete, select, update

from pennypost_mint.runtime.sets import delete_in, insert_ignore, insert_rows, select_in
from pennypost_postoffice.foreign.closed import outputs_on, record_on, settle_on
from pennypost_postoffice.tables import events, foreign_inputs, foreign_journal, held, treasury, treasury_counters

if TYPE_CHECKING:
    from pennypost_postoffice.post import Post

DAY = 86_400
MS = 1_000

_JOURNAL = ("event_id", "mint", "body", "keyset", "counter", "amounts", "began_at", "asked_at")
_INPUT = ("y", "event_id", "keyset", "amount", "secret", "c")
_EARNED = ("y", "mint", "keyset", "counter", "amount", "c", "day")
_HELD = ("id", "hold", "pubkey", "kind", "created_at", "keep_until", "body")
_EVENT = ("id", "pubkey", "kind", "created_at", "keep_until", "body")


class Input(NamedTuple):
    """A stamp of a mint elsewhere: Y and C are 33 bytes, `keyset` is its full id."""

    y: bytes
    keyset: str
    amount: int
    secret: str
    c: bytes

    def __repr__(self) -> str:
        # whoever reads the secret in a log could spend it
        return f"Input(y={self.y.hex()}, amount={self.amount})"


class Order(NamedTuple):
    """What is to be swapped at a mint: `inputs` for outputs of these amounts (sat) of one keyset.

    `counter`: the first of numbers that an earlier row left unused; None takes new ones.
    """

    mint: str
    keyset: str
    amounts: tuple[int, ...]
    inputs: tuple[Input, ...]
    counter: int | None = None


class Entry(NamedTuple):
    """A row of the journal with its stamps, in the order of Y. Times are in milliseconds."""

    event_id: bytes
    mint: str
    body: bytes | None
    keyset: str
    counter: int
    amounts: tuple[int, ...]
    began_at: int
    asked_at: int
    inputs: tuple[Input, ...]


class Earned(NamedTuple):
    """A proof of ours: Y and C (33 bytes), its output's number, its amount in sat."""

    y: bytes
    keyset: str
    counter: int
    amount: int
    c: bytes


class Paid(NamedTuple):
    """A swap that is done: what the transaction that stores the event takes with it."""

    entry: Entry
    earned: tuple[Earned, ...]

    @property
    def sat(self) -> int:
        """What came in."""
        return sum(each.amount for each in self.earned)


class Begin(Enum):
    """Why there is no row of ours now."""

    DECIDED = "the commit decides without a stamp: stored, deleted, free …"
    AGAIN = "another transaction is at it"
    UNDER_WAY = "another process has a row for this event"


class StampInUse(Exception):
    """One of the stamps is in the row of another event; raised to roll back."""

    def __init__(self, event_id: bytes) -> None:
        super().__init__()
        self.event_id = event_id


def begin_on(connection: Connection, post: Post, order: Order, now_ms: int) -> Entry | Begin:
    """A row for a verified event, when a commit now would store it for a good stamp. Raises StampInUse.

    What a commit would say is found by running one and taking it back.
    """
    # commit_on asks this module what is claimed
    from pennypost_postoffice.commit import RaceLost, commit_on

    if select_in(connection, foreign_journal, ("event_id",), "event_id", [post.id]):
        return Begin.UNDER_WAY
    paid = copy(post)
    paid.pay(None)
    try:
        with connection.begin_nested() as rehearsal:
            done = commit_on(connection, [paid], now_ms // MS)
            rehearsal.rollback()
    except RaceLost:
        return Begin.AGAIN
    if done.waiting:
        return Begin.AGAIN
    if not done.stored or done.stored[0].targets:
        return Begin.DECIDED
    if not _is_first_on(connection, post):
        return Begin.AGAIN
    return add_on(connection, post.id, post.body, order, now_ms)


def add_on(connection: Connection, event_id: bytes, body: bytes | None, order: Order, now_ms: int) -> Entry:
    """The row itself; without a `body` the inputs are the treasury's own. Raises StampInUse.

    One that was closed goes on with the outputs of before: they may be signed.
    """
    inputs = tuple(sorted(order.inputs))
    before = outputs_on(connection, event_id, order.mint, inputs)
    if before is not None:
        keyset, amounts, counter = before
    else:
        keyset, amounts, counter = order.keyset, order.amounts, order.counter
        if counter is None:
            counter = _count_on(connection, order.mint, keyset, len(amounts))
    entry = Entry(event_id, order.mint, body, keyset, counter, amounts, now_ms, now_ms, inputs)
    insert_rows(connection, foreign_journal, _JOURNAL, [(*entry[:5], _written(amounts), now_ms, now_ms)])
    rows = [(each.y, event_id, each.keyset, each.amount, each.secret, each.c) for each in inputs]
    taken = insert_ignore(connection, foreign_inputs, _INPUT, rows, "y")
    if len(taken) < len(rows):
        missed = next(each.y for each in inputs if each.y not in taken)
        found = select_in(connection, foreign_inputs, ("event_id",), "y", [missed])
        raise StampInUse(found[0][0] if found else event_id)
    return entry


def entries_on(connection: Connection, mint: str | None = None) -> list[Entry]:
    """All rows, or those of a mint, the oldest first."""
    columns = [foreign_journal.c[name] for name in _JOURNAL]
    chosen = select(*columns).order_by(foreign_journal.c.began_at, foreign_journal.c.event_id)
    if mint is not None:
        chosen = chosen.where(foreign_journal.c.mint == mint)
    rows = connection.execute(chosen).all()
    inputs: dict[bytes, list[Input]] = {}
    for event_id, *row in select_in(
        connection, foreign_inputs, ("event_id", *Input._fields), "event_id", [row.event_id for row in rows]
    ):
        inputs.setdefault(event_id, []).append(Input(*row))
    return [
        Entry(
            row.event_id,
            row.mint,
            row.body,
            row.keyset,
            row.counter,
            tuple(map(int, row.amounts.split(","))),
            row.began_at,
            row.asked_at,
            tuple(sorted(inputs.get(row.event_id, []))),
        )
        for row in rows
    ]


def claimed_on(connection: Connection, ids: Sequence[bytes]) -> set[bytes]:
    """Those of these events whose stamps are being swapped."""
    return {row[0] for row in select_in(connection, foreign_journal, ("event_id",), "event_id", ids)}


def is_there_on(connection: Connection, entry: Entry) -> bool:
    """Whether the row is still there, whoever asked last."""
    found = select_in(connection, foreign_journal, ("counter",), "event_id", [entry.event_id])
    return found == [(entry.counter,)]


def touch_on(connection: Connection, entry: Entry, now_ms: int) -> Entry | None:
    """The row before a request: whoever knows it only as it was before cannot end it. None when it is gone."""
    asked_at = max(now_ms, entry.asked_at + 1)
    return _changed_on(connection, entry, entry._replace(asked_at=asked_at))


def renew_on(
    connection: Connection, entry: Entry, keyset: str, amounts: tuple[int, ...], skip: int, now_ms: int
) -> Entry | None:
    """Other outputs, `skip` numbers further on, when it is known that the old ones cannot be signed any more.

    None when the row is gone.
    """
    counter = skip + _count_on(connection, entry.mint, keyset, skip + len(amounts))
    asked_at = max(now_ms, entry.asked_at + 1)
    return _changed_on(
        connection, entry, entry._replace(keyset=keyset, counter=counter, amounts=amounts, asked_at=asked_at)
    )


def drop_on(connection: Connection, entry: Entry) -> bool:
    """Ends a row whose stamps were not swapped; False when another process asked the mint once more meanwhile."""
    if not _take_out_on(connection, entry):
        return False
    # its numbers are free for other outputs now: nobody may go on with them
    settle_on(connection, [entry])
    return True


def close_on(connection: Connection, entry: Entry, reason: str, now: int) -> bool:
    """Ends a row of which nobody knows what became, and keeps what a repeat needs; False as `drop_on`."""
    if not _take_out_on(connection, entry):
        return False
    record_on(connection, entry, reason, now)
    return True


def end_on(connection: Connection, paid: Iterable[Paid], now: int) -> None:
    """Ends rows whose swap is done: their proofs come into the treasury. Repeating it changes nothing."""
    done = sorted(paid)
    ids = [each.entry.event_id for each in done]
    delete_in(connection, foreign_journal, "event_id", ids)
    delete_in(connection, foreign_inputs, "event_id", ids)
    collected = settle_on(connection, [one.entry for one in done])
    changed = [each.y for one in done if one.entry.body is None for each in one.entry.inputs]
    delete_in(connection, treasury, "y", sorted(changed))
    rows = [
        (each.y, one.entry.mint, each.keyset, each.counter, each.amount, each.c, now // DAY)
        for one in done
        if one.entry.event_id not in collected
        for each in one.earned
    ]
    insert_ignore(connection, treasury, _EARNED, sorted(rows), "y")


def _take_out_on(connection: Connection, entry: Entry) -> bool:
    table = foreign_journal.c
    gone = connection.execute(
        delete(foreign_journal).where(table.event_id == entry.event_id, table.asked_at == entry.asked_at)
    )
    if gone.rowcount:
        delete_in(connection, foreign_inputs, "event_id", [entry.event_id])
    return bool(gone.rowcount)


def _is_first_on(connection: Connection, post: Post) -> bool:
    """Whether no other transaction is about to store the event; those that come wait until this one is over.

    On SQLite there is one writer, and nothing to wait for.
    """
    if connection.dialect.name == "sqlite":
        return True
    event, until = post.event, post.postage.keep_until
    row = (post.id, post.pubkey, event.kind, event.created_at, until, post.body)
    first = bool(insert_ignore(connection, events, _EVENT, [row], "id"))
    if post.hold is not None:
        rest = (post.pubkey, event.kind, event.created_at, until, post.body)
        first = bool(insert_ignore(connection, held, _HELD, [(post.id, post.hold, *rest)], "id")) and first
    if first:
        delete_in(connection, events, "id", [post.id])
        delete_in(connection, held, "id", [post.id])
    return first


def _count_on(connection: Connection, mint: str, keyset: str, count: int) -> int:
    """The first of `count` output numbers that were never used (NUT-13)."""
    columns = treasury_counters.c
    insert_ignore(connection, treasury_counters, ("keyset", "mint", "next"), [(keyset, mint, 0)], "keyset")
    advance = update(treasury_counters).where(columns.keyset == keyset).values(next=columns.next + count)
    return connection.execute(advance.returning(columns.next)).scalar_one() - count


def _changed_on(connection: Connection, old: Entry, new: Entry) -> Entry | None:
    table = foreign_journal.c
    changed = connection.execute(
        update(foreign_journal)
        .where(table.event_id == old.event_id, table.asked_at == old.asked_at)
        .values(keyset=new.keyset, counter=new.counter, amounts=_written(new.amounts), asked_at=new.asked_at)
    )
    return new if changed.rowcount else None


def _written(amounts: tuple[int, ...]) -> str:
    return ",".join(map(str, amounts))
