"""The verify stage: what is remembered is looked up, everything else is checked in worker processes.

    put ─┬─ no stamp, a bad one, or a repeat ▶ lookups ─┬─ stored, deleted, spent, refused ▶ answer
         │                                              └─ otherwise ▶ crypto
         └─ everything else ▶ crypto: signature, stamps, change ▶ AUTH · ephemeral · commit

One batched look-up answers repeats and unstamped events, so neither costs any crypto.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from pennypost.protocol.errors import (
    DatabaseUnavailable,
    EventDeleted,
    InvalidKey,
    InvalidSignature,
    Overloaded,
    PennypostError,
    SeedMismatch,
    StampForged,
    StampSpent,
    WorkerFailed,
)
from pennypost.protocol.event import KIND_AUTH, KIND_DELETION, KIND_VANISH, is_ephemeral
from pennypost_mint.runtime.limits import COMMIT_BATCH, VERIFY_BATCH
from pennypost_postoffice.accept import read_again
from pennypost_postoffice.checks import BAD_SIGNATURE, OFFICE_JOBS, Check, Checked
from pennypost_postoffice.known import Known, known_on
from pennypost_postoffice.post import Post, duplicate, refusal
from pennypost_postoffice.rows import feed_record, tag_keys
from pennypost_postoffice.stage import Stage

if TYPE_CHECKING:
    from pennypost_postoffice.office import Office

PAUSE = 0.1
"""Seconds before what failed on our side is tried again."""


def look_up_on(connection: Connection, posts: list[Post]) -> Known:
    """What is known of events that were not verified; Ys from memory."""
    return known_on(connection, posts, {y for post in posts for y in post.memory or ()})


class Verifier:
    """Decides what each event costs us before it is stored."""

    def __init__(self, office: Office, at_once: int) -> None:
        self._office = office
        waited = office.metrics.office_verify_wait_seconds.observe
        self._lookups = Stage(self._look_up, office.failed, most=COMMIT_BATCH, waited=waited)
        self._crypto = Stage(self._check, office.failed, most=VERIFY_BATCH, at_once=at_once, waited=waited)

    @property
    def waiting(self) -> int:
        """Events that wait for a look-up or a process."""
        return self._lookups.waiting + self._crypto.waiting

    def put(self, post: Post) -> None:
        """Takes an event that passed the cheap checks."""
        self._office.recent.recall(post)
        # A deletion is free or not by what it names, so it is never refused for its stamp alone.
        refused = post.refusal is not None and post.event.kind != KIND_DELETION
        if refused or post.memory is not None or post.unread is not None:
            self._lookups.put(post)
        else:
            self._crypto.put(post)

    async def run(self) -> None:
        """Works until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._lookups.run())
            group.create_task(self._crypto.run())

    async def _look_up(self, batch: list[Post]) -> None:
        office = self._office
        posts = office.unanswered(batch)
        try:
            known = await office.database.read(look_up_on, posts)
        except DatabaseUnavailable:
            self._lookups.put_back(posts)
            await asyncio.sleep(PAUSE)
            return
        if unread := [post for post in posts if post.unread is not None]:
            # With the database away the keysets are as they were, and so is the answer.
            with contextlib.suppress(DatabaseUnavailable, SeedMismatch):
                await office.keyring.refresh()
            for post in unread:
                read_again(office, post)
        for post in posts:
            error = _refusal(post, known)
            if post.id in known.stored:
                answer = duplicate(office.change_of(known.change_of(post)))
                office.postmarks.answer(post, answer, known.statements.get(post.id))
            elif error is not None:
                office.answer(post, refusal(error))
            else:
                self._crypto.put(post)

    async def _check(self, batch: list[Post]) -> None:
        office = self._office
        posts = office.unanswered(batch)
        try:
            results: list[Checked] = await office.workers.run("office.check_posts", [_item(post) for post in posts])
        except Overloaded:
            await asyncio.sleep(PAUSE)
            self._crypto.put_back(posts)
            return
        except (WorkerFailed, InvalidKey) as error:
            # One event may have broken it: the others must not share its fate.
            if len(posts) == 1:
                office.answer(posts[0], refusal(error))
                return
            for post in posts:
                await self._check([post])
            return
        office.metrics.office_verify_events.observe(len(posts))
        for post, result in zip(posts, results, strict=True):
            if isinstance(result, int):
                office.answer(post, refusal(InvalidSignature() if result == BAD_SIGNATURE else StampForged()))
            else:
                post.ys, post.signatures = result
                self._passed(post)

    def _passed(self, post: Post) -> None:
        office = self._office
        kind = post.event.kind
        if kind == KIND_AUTH:
            office.authenticated(post)
        elif is_ephemeral(kind):
            office.pass_on(post)
        elif kind == KIND_VANISH:
            office.vanisher.put(post)
        else:
            post.tag_keys = tag_keys(post.event)
            post.record = feed_record(post.event)
            if post.foreign is not None and office.foreign is not None:
                office.foreign.put(post)
            else:
                office.committer.put(post)


def _refusal(post: Post, known: Known) -> PennypostError | None:
    if known.is_deleted(post):
        return EventDeleted()
    if post.refusal is not None and post.deletion is None:
        return post.refusal
    if post.memory and post.deletion is None and not known.spent.isdisjoint(post.memory):
        return StampSpent()
    return None


def _item(post: Post) -> Check:
    proofs = post.stamp.proofs if post.stamp is not None else []
    outputs = [(output.blank.keyset_id, output.amount, output.blank.b) for output in post.outputs]
    return post.pubkey, post.id, bytes.fromhex(post.event.sig), proofs, outputs


__all__ = ["OFFICE_JOBS", "Verifier", "look_up_on"]
