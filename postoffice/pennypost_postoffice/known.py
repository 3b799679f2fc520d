"""Step 1 of a commit, and all of a look-up: what the database already knows of a batch, in a few set-based reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from pennypost_mint.api import SignedOutput, signatures_on, spent_on
from pennypost_mint.runtime.sets import select_in
from pennypost_postoffice.deletion import OPERATOR, Target, is_receiver, may_delete
from pennypost_postoffice.graves import graves_on
from pennypost_postoffice.holds import held_on
from pennypost_postoffice.post import Post
from pennypost_postoffice.postmark import Statement, statements_on
from pennypost_postoffice.rows import vanish_keys
from pennypost_postoffice.tables import address_tombstones, addresses, events


class Current(NamedTuple):
    """The stored event of a replaceable address."""

    event_id: bytes
    created_at: int
    keep_until: int


class Known(NamedTuple):
    """What is stored, deleted, spent and signed of what a batch names."""

    stored: set[bytes]
    tombstones: dict[bytes, set[bytes]]
    vanished: dict[bytes, int]
    burials: int | None
    spent: set[bytes]
    addresses: dict[bytes, Current]
    graves: dict[bytes, int]
    targets: dict[bytes, Target]
    signed: dict[bytes, SignedOutput]
    statements: dict[bytes, Statement]
    """Of those that ask for a postmark."""

    def is_deleted(self, post: Post) -> bool:
        """Whether it was deleted, or its address up to its time, by its author, a wrap's receiver or the operator.

        Or one of the first two vanished later.
        """
        for pubkey in self.tombstones.get(post.id, ()):
            if pubkey in (post.pubkey, OPERATOR) or is_receiver(pubkey, post.event):
                return True
        if self.vanished and any(
            post.event.created_at <= self.vanished.get(key, -1) for key in vanish_keys(post.event)
        ):
            return True
        grave = self.graves.get(post.address) if post.address is not None else None
        return grave is not None and post.event.created_at <= grave

    def is_outdated(self, post: Post, now: int) -> bool:
        """Whether its address holds a later version, or one of the same second with a lower id (NIP-01)."""
        current = self.addresses.get(post.address) if post.address is not None else None
        if current is None or current.keep_until <= now:
            return False
        return (current.created_at, post.id) > (post.event.created_at, current.event_id)

    def own_targets(self, post: Post, now: int) -> list[Target]:
        """The stored events that a deletion names and may delete."""
        assert post.deletion is not None
        named = [self.targets[each] for each in post.deletion.ids if each in self.targets]
        found = [target for target in named if target.keep_until > now and may_delete(post.pubkey, target)]
        for address in post.deletion.addresses:
            current = self.addresses.get(address)
            target = self.targets.get(current.event_id) if current else None
            if target is not None and target.keep_until > now and target.created_at <= post.event.created_at:
                found.append(target)
        return found

    def change_of(self, post: Post) -> list[SignedOutput]:
        """Signatures made earlier for this event's blank outputs."""
        return [self.signed[blank.b] for blank in post.blanks if blank.b in self.signed]


def known_on(connection: Connection, posts: Sequence[Post], ys: Iterable[bytes]) -> Known:
    """Reads it in the caller's transaction; `ys` are those of the stamps that are to be spent."""
    ids = [post.id for post in posts]
    holding = [post.id for post in posts if post.hold is not None]
    deletions = [post.deletion for post in posts if post.deletion is not None]
    own = [post.address for post in posts if post.address is not None]
    named = own + [address for deletion in deletions for address in deletion.addresses]
    current = _addresses_on(connection, named)
    targets = [each for deletion in deletions for each in deletion.ids]
    targets += [current[each].event_id for deletion in deletions for each in deletion.addresses if each in current]
    blanks = [blank.b for post in posts for blank in post.blanks]
    graves = graves_on(connection, posts)
    return Known(
        stored={row[0] for row in select_in(connection, events, ("id",), "id", ids)}
        | held_on(connection, holding).keys(),
        tombstones=graves.tombstones,
        vanished=graves.vanished,
        burials=graves.burials,
        spent=spent_on(connection, ys),
        addresses=current,
        graves=dict(select_in(connection, address_tombstones, ("address", "deleted_at"), "address", own)),
        targets=targets_on(connection, targets),
        signed=signatures_on(connection, blanks) if blanks else {},
        statements=statements_on(connection, [post.id for post in posts if post.postmark]),
    )


def targets_on(connection: Connection, ids: Iterable[bytes]) -> dict[bytes, Target]:
    """Stored events by id, held ones too, with what a deletion must know of them."""
    wanted = list(ids)
    found = {row[0]: Target(*row) for row in select_in(connection, events, Target._fields, "id", wanted)}
    return found | held_on(connection, (each for each in wanted if each not in found))


def _addresses_on(connection: Connection, keys: Iterable[bytes]) -> dict[bytes, Current]:
    columns = ("address", "event_id", "created_at", "keep_until")
    return {row[0]: Current(*row[1:]) for row in select_in(connection, addresses, columns, "address", keys)}
