"""The transaction that takes stamps and stores mail, for everything that waits at once.

    1  what is stored, deleted, spent and signed already
    2  plan in arrival order; what shares an id, a Y or an address with one already planned waits for the next batch
    3  insert events, by id, and take their replaceable addresses; what is held goes to a table that nobody reads
    4  spend the stamps of those inserted, by Y
    5  an event that lost a Y to another transaction goes again, and gives back its other Ys
    6  change signatures, by blinded message
    7  what is replaced or deleted goes, tags, and the feed's numbers last, under its lock

Locks are taken in one order everywhere: holds < events < addresses < spent < outputs < feed. An event that finds
another transaction was faster with its id or address waits, too, for the next batch, whose step 1 sees what happened:
so nobody is told "duplicate" for what was rolled back. `commit_on` is pure apart from SQL, for the database may run it
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from pennypost.protocol.errors import (
    EventDeleted,
    EventExpired,
    HoldFull,
    Newer,
    OutputSigned,
    PennypostError,
    StampRequired,
    StampSpent,
)
from pennypost.protocol.headers import HELD, RELEASED
from pennypost_mint.api import OutputRow, SignedOutput, SpentProof, record_signatures_on, spend_on, unspend_on
from pennypost_mint.runtime.sets import delete_in, delete_rows, insert_ignore, insert_rows, select_in
from pennypost_postoffice.deletion import Target
from pennypost_postoffice.feed import advance_on, number_on
from pennypost_postoffice.foreign.journal import claimed_on, end_on
from pennypost_postoffice.holds import keep_on, receivers_of, remove_held_on, take_on
from pennypost_postoffice.known import Known, known_on, targets_on
from pennypost_postoffice.post import Post
from pennypost_postoffice.postmark import Statement, note_on
from pennypost_postoffice.removal import remove_on
from pennypost_postoffice.rows import held_name, with_flags
from pennypost_postoffice.tables import address_tombstones, addresses, events, held, tags, tombstones

DAY = 86_400

_EVENT = ("id", "pubkey", "kind", "created_at", "keep_until", "body", "free_bytes")
_ADDRESS = ("address", "event_id", "created_at", "keep_until")
_TAG = ("key", "created_at", "event_id")
_LASTS = ("lasts", "free_since")

NEVER = 1 << 62
"""In the place of `free_since` for a tombstone that is in no quota: of two for one id that one counts."""

Buried = dict[tuple[bytes, ...], tuple[int, ...]]


class RaceLost(Exception):
    """Another transaction signed the same blinded message, deleted or stored what this one names: run it again."""


class Planned(NamedTuple):
    """An event to store: whether its stamp is spent, what it deletes, until when it is kept (Unix seconds).

    `held`: nobody is served it before its release.
    """

    post: Post
    spends: bool
    targets: list[Target]
    keep_until: int
    held: bool = False

    @property
    def is_free(self) -> bool:
        """Whether nothing pays for it, and no operator brings it: then it is in the quota of free events.

        Not a letter that its price rule asks nothing for, which is in another.
        """
        post = self.post
        return not post.is_unpriced if post.unpaid else not (self.spends or post.postage.free)


class Done(NamedTuple):
    """What became of a batch; every event of it is in one of the five lists. `stored` is in the order of the feed,
    where its numbers begin with `first`; for those in `claimed` a stamp of a mint elsewhere is being swapped."""

    first: int
    stored: list[Planned]
    duplicates: list[tuple[Post, list[SignedOutput]]]
    refused: list[tuple[Post, PennypostError]]
    waiting: list[Post]
    claimed: Sequence[Post] = ()
    statements: Mapping[bytes, Statement] = {}


def commit_on(connection: Connection, posts: Sequence[Post], now: int, foreign: bool = False) -> Done:
    """Stores what can be stored of these verified events; `now` in Unix seconds. Raises RaceLost.

    `foreign`: there may be stamps of mints elsewhere that are being swapped.
    """
    batch = _Batch(connection, now)
    batch.know(posts)
    batch.plan(posts)
    batch.hold()
    if batch.planned:
        batch.insert_events()
        if foreign:
            batch.leave_claimed()
        batch.take_addresses()
        batch.spend()
        batch.record_change()
        batch.remove()
        batch.insert_tags()
        batch.note_postmarks()
        batch.number()
    if foreign:
        waiting = set(batch.waiting)
        end_on(connection, [post.paid for post in posts if post.paid is not None and post not in waiting], now)
    return Done(
        batch.first,
        batch.planned,
        batch.duplicates,
        batch.refused,
        batch.waiting,
        batch.claimed,
        batch.known.statements,
    )


class _Batch:
    """One run of the seven steps: `planned` shrinks from step to step, the other lists grow."""

    known: Known

    def __init__(self, connection: Connection, now: int) -> None:
        self._connection = connection
        self._now = now
        self.planned: list[Planned] = []
        self.duplicates: list[tuple[Post, list[SignedOutput]]] = []
        self.refused: list[tuple[Post, PennypostError]] = []
        self.waiting: list[Post] = []
        self.claimed: list[Post] = []
        self.first = 0
        self._holding = False

    def know(self, posts: Sequence[Post]) -> None:
        """Step 1."""
        self.known = known_on(self._connection, posts, [y for post in posts for y in post.ys])

    def plan(self, posts: Sequence[Post]) -> None:
        """Step 2."""
        known, now = self.known, self._now
        busy: set[bytes] = set()
        for post in posts:
            claims = post.claims()
            if not busy.isdisjoint(claims):
                self.waiting.append(post)
                continue
            if post.id in known.stored:
                self.duplicates.append((post, known.change_of(post)))
                continue
            targets = known.own_targets(post, now) if post.deletion is not None else []
            spends = not post.postage.free and not targets
            error = self._refusal(post, spends)
            if error is not None:
                self.refused.append((post, error))
                continue
            busy.update(claims)
            until = max([post.postage.keep_until, *(target.keep_until for target in targets)])
            self.planned.append(Planned(post, spends, targets, until))

    def _refusal(self, post: Post, spends: bool) -> PennypostError | None:
        known, now = self.known, self._now
        if post.postage.keep_until <= now:
            return EventExpired()
        if known.is_deleted(post):
            return EventDeleted()
        if known.is_outdated(post, now):
            return Newer()
        if not spends:
            return None
        if post.stamp is None:
            return post.refusal or StampRequired()
        if not known.spent.isdisjoint(post.ys):
            return StampSpent()
        if any(blank.b in known.signed for blank in post.blanks):
            return OutputSigned()
        return None

    def hold(self) -> None:
        """Step 3: which events under hold tags stay closed; the rows of their tags are locked from here."""
        latest: dict[bytes, int] = {}
        for plan in self.planned:
            if (tag := plan.post.hold) is not None:
                latest[tag] = max(plan.keep_until, latest.get(tag, 0))
        if not latest:
            return
        released, room = take_on(self._connection, latest, self._now)
        plans, self.planned = self.planned, []
        for plan in plans:
            tag = plan.post.hold
            if tag is None:
                self.planned.append(plan)
            elif tag in released:
                plan.post.record = with_flags(plan.post.record, RELEASED)
                self.planned.append(plan)
            elif room[tag] <= 0 and plan.post.paid is None:
                self.refused.append((plan.post, HoldFull()))
            else:
                room[tag] -= 1
                plan.post.record = with_flags(plan.post.record, HELD)
                self.planned.append(plan._replace(held=True))
        self._holding = any(plan.held for plan in self.planned)

    def insert_events(self) -> None:
        """Step 3."""
        rows: list[tuple[Any, ...]] = sorted(
            (
                plan.post.id,
                plan.post.pubkey,
                plan.post.event.kind,
                plan.post.event.created_at,
                plan.keep_until,
                plan.post.body,
                len(plan.post.body) if plan.is_free else None,
            )
            for plan in self._open()
        )
        columns = _EVENT
        if unpriced := {plan.post.id for plan in self.planned if plan.post.unpaid and plan.post.is_unpriced}:
            # a column that no other batch writes
            columns = (*_EVENT, "unpriced_bytes")
            rows = [(*row, len(row[5]) if row[0] in unpriced else None) for row in rows]
        inserted = insert_ignore(self._connection, events, columns, rows, "id", absent=True)
        if self._holding:
            inserted |= self._insert_held()
        if len(inserted) < len(self.planned):
            self._wait_unless(lambda plan: plan.post.id in inserted)

    def leave_claimed(self) -> None:
        """Step 3: who has a row in the journal of swaps is stored when that is over, by whoever swaps."""
        plain = [plan for plan in self.planned if plan.post.paid is None]
        claimed = claimed_on(self._connection, [plan.post.id for plan in plain])
        if claimed:
            lost = [plan for plan in plain if plan.post.id in claimed]
            self._withdraw(lost)
            self.claimed = [plan.post for plan in lost]

    def _insert_held(self) -> set[bytes]:
        posts = [(plan.post, plan.keep_until) for plan in self.planned if plan.held]
        rows = [
            (
                *(post.id, post.hold, post.pubkey, post.event.kind, post.event.created_at, until, post.body),
                len(post.body) if post.is_unpriced else None,
            )
            for post, until in posts
        ]
        return keep_on(
            self._connection, rows, ((key, post.id) for post, _ in posts for key in receivers_of(post.event))
        )

    def _open(self) -> list[Planned]:
        return [plan for plan in self.planned if not plan.held] if self._holding else self.planned

    def take_addresses(self) -> None:
        """Step 3: an address whose current event is no longer the one of step 1 was taken by another transaction."""
        takers = {plan.post.address: plan for plan in self.planned if plan.post.address is not None}
        if not takers:
            return
        self._replace_addresses(
            old=[
                (address, self.known.addresses[address].event_id)
                for address in takers
                if address in self.known.addresses
            ],
            new=[
                (address, plan.post.id, plan.post.event.created_at, plan.keep_until) for address, plan in takers.items()
            ],
        )
        held = dict(select_in(self._connection, addresses, ("address", "event_id"), "address", takers))
        lost = [plan for address, plan in takers.items() if held.get(address) != plan.post.id]
        if lost:
            self._withdraw(lost)
            self.waiting += [plan.post for plan in lost]

    def spend(self) -> None:
        """Steps 4 and 5."""
        day = self._now // DAY
        rows = [
            SpentProof(y, position, proof[1], day, None)
            for plan in self.planned
            if plan.spends and plan.post.stamp is not None
            for y, position, proof in zip(plan.post.ys, plan.post.stamp.positions, plan.post.stamp.proofs, strict=True)
        ]
        taken = spend_on(self._connection, rows, absent=True)
        if len(taken) == len(rows):
            return
        lost = [plan for plan in self.planned if plan.spends and not taken.issuperset(plan.post.ys)]
        unspend_on(self._connection, sorted(y for plan in lost for y in plan.post.ys if y in taken))
        self._restore_addresses(lost)
        self._withdraw(lost)
        self.refused += [(plan.post, StampSpent()) for plan in lost]

    def record_change(self) -> None:
        """Step 6. Raises RaceLost."""
        day = self._now // DAY
        rows: list[OutputRow] = [
            (output.blank.b, output.blank.position, output.amount, signature.c, signature.e, signature.s, day)
            for plan in self.planned
            if plan.spends
            for output, signature in zip(plan.post.outputs, plan.post.signatures, strict=True)
        ]
        if rows and len(record_signatures_on(self._connection, rows)) < len(rows):
            raise RaceLost

    def remove(self) -> None:
        """Step 7: versions that were replaced, and what deletions name."""
        targets = {target.id: target for plan in self.planned for target in plan.targets}
        replaced = [
            self.known.addresses[plan.post.address].event_id
            for plan in self.planned
            if plan.post.address is not None and plan.post.address in self.known.addresses
        ]
        targets |= targets_on(self._connection, replaced)
        deletions = [plan for plan in self.planned if plan.post.deletion is not None]
        unpaid = self._unpaid([target for plan in deletions for target in plan.targets]) if deletions else {}
        remove_on(self._connection, targets.values())
        if deletions:
            self._bury(deletions, unpaid)

    def _unpaid(self, targets: Iterable[Target]) -> dict[bytes, int]:
        """Those of these events that no stamp paid, and when they were made."""
        found: dict[bytes, int] = {}
        ids = sorted({target.id for target in targets})
        for table, marks in ((events, ("free_bytes", "unpriced_bytes")), (held, ("unpriced_bytes",))):
            for row in select_in(self._connection, table, ("id", "created_at", *marks), "id", ids):
                if any(mark is not None for mark in row[2:]):
                    found[row[0]] = row[1]
        return found

    def insert_tags(self) -> None:
        """Step 7: the index of `#x` filters."""
        rows = [(key, plan.post.event.created_at, plan.post.id) for plan in self._open() for key in plan.post.tag_keys]
        rows.sort()
        insert_rows(self._connection, tags, _TAG, rows)

    def note_postmarks(self) -> None:
        """Step 7: what the postmarks that are asked for will say."""
        asked = [plan for plan in self.planned if plan.post.postmark]
        if asked:
            made = [Statement(plan.post.id, self._now, paid(plan), plan.keep_until) for plan in asked]
            note_on(self._connection, made)
            self.known.statements.update((each.event_id, each) for each in made)

    def number(self) -> None:
        """Step 7."""
        rows = [(plan.post.id, plan.post.record, plan.keep_until) for plan in self.planned]
        if self._holding:
            rows = [
                (held_name(row[0]) if plan.held else row[0], *row[1:])
                for plan, row in zip(self.planned, rows, strict=True)
            ]
        if not rows:
            return
        buries = any(plan.post.deletion is not None for plan in self.planned)
        self.first, burials = advance_on(self._connection, len(rows), buries=buries)
        self._look_again(burials, buries)
        number_on(self._connection, self.first, rows)

    def _look_again(self, burials: int, buries: bool) -> None:
        """Under the feed's lock: what was committed beside this batch (graves.py). Raises RaceLost."""
        known = self.known
        if known.burials is None:
            return
        posts = [plan.post for plan in self.planned]
        if burials != known.burials and any(map(self._known_now(posts).is_deleted, posts)):
            raise RaceLost
        if buries:
            deletions = [post for post in posts if post.deletion is not None]
            now = self._known_now(deletions)
            if any(target.id not in known.targets for post in deletions for target in now.own_targets(post, self._now)):
                raise RaceLost

    def _known_now(self, posts: Sequence[Post]) -> Known:
        return known_on(self._connection, posts, ())

    def _wait_unless(self, won: Callable[[Planned], bool]) -> None:
        self.waiting += [plan.post for plan in self.planned if not won(plan)]
        self.planned = [plan for plan in self.planned if won(plan)]

    def _withdraw(self, lost: list[Planned]) -> None:
        """Takes events of this transaction back; nothing but their rows in `events` exists yet."""
        ids = {plan.post.id for plan in lost}
        delete_in(self._connection, events, "id", sorted(ids))
        if self._holding:
            remove_held_on(self._connection, [(plan.post.id, plan.post.event) for plan in lost if plan.held])
        self.planned = [plan for plan in self.planned if plan.post.id not in ids]

    def _replace_addresses(self, old: Iterable[tuple[bytes, bytes]], new: Iterable[tuple[Any, ...]]) -> None:
        delete_rows(self._connection, addresses, ("address", "event_id"), sorted(old))
        insert_ignore(self._connection, addresses, _ADDRESS, sorted(new), "address")

    def _restore_addresses(self, lost: list[Planned]) -> None:
        pairs = [(plan.post.address, plan.post.id) for plan in lost if plan.post.address is not None]
        before = [(address, *self.known.addresses[address]) for address, _ in pairs if address in self.known.addresses]
        if pairs:
            self._replace_addresses(pairs, before)

    def _bury(self, deletions: list[Planned], unpaid: Mapping[bytes, int]) -> None:
        """Tombstones, kept as long as the event itself would have been; for one not seen, as long as the deletion.

        For one that a free deletion names and that is not here, or was `unpaid`, it may be dropped before that
        (retention.py).
        """
        graves: Buried = {}
        places: Buried = {}
        for plan in deletions:
            assert plan.post.deletion is not None
            own = {target.id: target.keep_until for target in plan.targets}
            pays = not plan.is_free
            for identifier in plan.post.deletion.ids:
                if identifier in own or identifier not in self.known.targets:
                    until = own.get(identifier, plan.keep_until)
                    since = NEVER if pays else unpaid.get(identifier, NEVER if identifier in own else 0)
                    _extend(graves, (identifier, plan.post.pubkey), (until, pays or identifier in own, since))
            for address in plan.post.deletion.addresses:
                current = self.known.addresses.get(address)
                lasts = pays or (current is not None and current.event_id in own)
                since = 0 if not lasts else NEVER if pays or current is None else unpaid.get(current.event_id, NEVER)
                _extend(places, (address,), (plan.post.event.created_at, plan.keep_until, lasts, since))
        self._extend_rows(tombstones, ("id", "pubkey"), ("keep_until", *_LASTS), graves)
        self._extend_rows(address_tombstones, ("address",), ("deleted_at", "keep_until", *_LASTS), places)

    def _extend_rows(self, table: Any, keys: tuple[str, ...], values: tuple[str, ...], rows: Buried) -> None:
        """Inserts rows; where one exists, the later times stay."""
        width = len(keys)
        for row in select_in(self._connection, table, keys + values, keys[0], sorted({key[0] for key in rows})):
            if row[:width] in rows:
                *times, lasts, since = row[width:]
                _extend(rows, row[:width], (*times, lasts, (NEVER if lasts else 0) if since is None else since))
        delete_rows(self._connection, table, keys, sorted(rows))
        written = [
            (*key, *found[:-1], found[-1] if found[-2] and found[-1] < NEVER else None)
            for key, found in sorted(rows.items())
        ]
        insert_ignore(self._connection, table, keys + values, written, keys[0])


def paid(plan: Planned) -> int:
    """What an event that is stored has paid: its stamps without their change, in sat."""
    post = plan.post
    if post.paid is not None:
        return post.paid.sat
    if not plan.spends or post.stamp is None:
        return 0
    return post.stamp.sat - sum(output.amount for output in post.outputs)


def _extend(rows: Buried, key: tuple[bytes, ...], times: tuple[int, ...]) -> None:
    rows[key] = tuple(map(max, rows.get(key, times), times))
