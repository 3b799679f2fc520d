"""The commit stage: one transaction at a time, each with everything that came while the last one was under way.

    verified ▶ waiting ▶ commit_on ─┬─ stored, duplicate, refused ▶ answered after the commit
                  ▲                 └─ shares something with one of the batch ─┐
                  └──────────────── before all others ────────────────────────┘

A database that is away is asked again until it answers; what waits too long is answered by `Office.overdue`. A batch
that fails for another reason is halved until the one event that breaks it stands alone.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from pennypost.protocol.errors import DatabaseUnavailable, PennypostError, StampSpent
from pennypost_mint.runtime.limits import COMMIT_BATCH, COMMIT_BYTES
from pennypost_postoffice.commit import Done, RaceLost, commit_on
from pennypost_postoffice.post import Post, duplicate, refusal, stored
from pennypost_postoffice.stage import Stage

if TYPE_CHECKING:
    from pennypost_postoffice.office import Office

PAUSE = (0.05, 1.0)
"""First and longest pause, in seconds, before a database that is away is asked again."""


class Committer:
    """Stores verified events in groups."""

    def __init__(self, office: Office) -> None:
        self._office = office
        waited = office.metrics.office_commit_wait_seconds.observe
        self._stage = Stage(self._commit, office.failed, most=COMMIT_BATCH, most_bytes=COMMIT_BYTES, waited=waited)
        self._pause = PAUSE[0]

    @property
    def waiting(self) -> int:
        """Verified events that no transaction has taken yet."""
        return self._stage.waiting

    def put(self, post: Post) -> None:
        """Takes a verified event."""
        self._stage.put(post)

    async def run(self) -> None:
        """Works until it is cancelled."""
        await self._stage.run()

    async def _commit(self, batch: list[Post]) -> None:
        office = self._office
        posts = office.unanswered(batch)
        if not posts:
            return
        began = monotonic()
        try:
            done: Done = await office.database.write(commit_on, posts, office.now(), office.foreign is not None)
        except RaceLost:
            self._stage.put_back(posts)
        except DatabaseUnavailable:
            self._stage.put_back(posts)
            await asyncio.sleep(self._pause)
            self._pause = min(2 * self._pause, PAUSE[1])
        except (SQLAlchemyError, PennypostError, ValueError, TypeError, LookupError) as error:
            await self._halve(posts, error)
        else:
            self._pause = PAUSE[0]
            self._answer(done, monotonic() - began)

    async def _halve(self, posts: list[Post], error: Exception) -> None:
        if len(posts) > 1:
            middle = len(posts) // 2
            await self._commit(posts[:middle])
            await self._commit(posts[middle:])
            return
        self._office.failed(posts, error)

    def _answer(self, done: Done, seconds: float) -> None:
        office = self._office
        office.metrics.office_commit_events.observe(len(done.stored))
        office.metrics.office_commit_seconds.observe(seconds)
        self._stage.put_back(done.waiting)
        for post in done.claimed:
            assert office.foreign is not None
            office.foreign.wait_for(post)
        for plan in done.stored:
            post = plan.post
            office.recent.remember(post, spent=plan.spends)
            change = office.change_made(post) if plan.spends else None
            office.postmarks.answer(post, stored(plan.keep_until, change, plan.held), done.statements.get(post.id))
        for post, signed in done.duplicates:
            office.recent.remember(post, spent=False)
            office.postmarks.answer(post, duplicate(office.change_of(signed)), done.statements.get(post.id))
        for post, error in done.refused:
            if isinstance(error, StampSpent):
                office.recent.remember(post, spent=True)
            office.answer(post, refusal(error))
        office.committed(done.first, done.stored)
