"""Postmarks: the office's signature under what it promised (wire contract, section 1; the bytes: protocol.postmark).

    EVENT with {"postmark": true} ─▶ commit: when, for how much, until when ─▶ signed by a worker ─▶ POSTMARK, OK
    the same event again, asking again ─▶ the same statement ─▶ the same signature

Only who asks when the event is stored has a statement noted; whoever asks later gets his OK alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection

from pennypost.protocol.errors import InvalidInput, InvalidKey, Overloaded, WorkerFailed
from pennypost.protocol.postmark import postmark_json
from pennypost_mint.runtime.logs import logger
from pennypost_mint.runtime.sets import insert_ignore, select_in
from pennypost_postoffice.post import Answer, Post
from pennypost_postoffice.tables import postmarks

if TYPE_CHECKING:
    from pennypost_postoffice.office import Office

PAUSE = 0.1
"""Seconds before workers that are too busy are asked again."""

log = logger("postmark")


class Statement(NamedTuple):
    """What a postmark says: the event's id, when it was stored, what was paid (sat), until when it is kept."""

    event_id: bytes
    stored_at: int
    sat: int
    keep_until: int


def wants_postmark(options: object) -> bool:
    """Whether the fourth element of an EVENT asks for one. Raises InvalidInput for what is neither true nor false."""
    if not isinstance(options, dict):
        return False
    asked: Any = options.get("postmark", False)
    if not isinstance(asked, bool):
        raise InvalidInput("postmark is true or false")
    return asked


def note_on(connection: Connection, statements: Sequence[Statement]) -> None:
    """Notes them, in the transaction that stores the events."""
    insert_ignore(connection, postmarks, Statement._fields, sorted(statements), "event_id")


def statements_on(connection: Connection, ids: Iterable[bytes]) -> dict[bytes, Statement]:
    """What was noted of these events."""
    return {row[0]: Statement(*row) for row in select_in(connection, postmarks, Statement._fields, "event_id", ids)}


class Postmarks:
    """Answers events whose postmark has to be signed first. Each counts as in flight until then, which bounds them."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._secret = office.keyring.derive("identity")
        self._waiting: list[tuple[Post, Answer, Statement]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def answer(self, post: Post, answer: Answer, statement: Statement | None) -> None:
        """The answer to a stored event, now; or with its postmark, as soon as that is signed."""
        if statement is None or not post.postmark:
            self._office.answer(post, answer)
            return
        self._waiting.append((post, answer, statement))
        if len(self._waiting) == 1:
            task = asyncio.create_task(self._sign())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _sign(self) -> None:
        """Whatever waits by now, at once."""
        batch, self._waiting = self._waiting, []
        office = self._office
        items = [(self._secret, *statement) for _, _, statement in batch]
        while True:
            try:
                signed = await office.workers.run("office.sign_postmarks", items)
                break
            except Overloaded:
                await asyncio.sleep(PAUSE)
            except (WorkerFailed, InvalidKey) as error:
                log.error("postmarks could not be signed", events=len(batch), code=error.code)
                signed = [None] * len(batch)
                break
        for (post, answer, _), postmark in zip(batch, signed, strict=True):
            office.answer(post, answer._replace(postmark=None if postmark is None else postmark_json(postmark)))
