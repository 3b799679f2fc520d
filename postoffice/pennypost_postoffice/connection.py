"""One WebSocket connection (raw ASGI): frames in, frames out, nothing in between but bounds.

    from the client              to the client
    EVENT event stamp? options?  OK, with CHANGE and POSTMARK before it; once it is durable or refused
    REQ name filter …            EVENT …, EOSE, then EVENT for what is new; or CLOSED       (queries.py)
    COUNT name filter …          COUNT, or CLOSED
    NEG-OPEN, NEG-MSG, NEG-CLOSE NEG-MSG, or NEG-ERR                                        (syncs.py)
    CLOSE name                   –
    AUTH event                   OK
    RELEASE hold x id            OK with the hold for an id
    anything else                NOTICE "… unparseable message …" at once (Keychat sends a bare `ping` and waits for it)
    –                            AUTH challenge at once on connecting

Reading stops, and nothing is dropped, while the connection has too many events without an answer, too many queries that
wait, or has used up its share of CPU; or while the whole office is full. A reader that does not take what it asked for
is cut off: OUTGOING bytes may wait for it, more for OUTGOING_SECONDS, and less where too much waits for all connections
together (outgoing.py). Repeating a frame is always safe.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from pennypost.protocol.errors import FrameTooLarge, InvalidFrame, PennypostError, ServerError
from pennypost.protocol.frames import (
    AuthFrame,
    CloseFrame,
    CountFrame,
    EventFrame,
    NegCloseFrame,
    NegMessageFrame,
    NegOpenFrame,
    ReleaseFrame,
    ReqFrame,
    auth_message,
    change_message,
    notice_message,
    ok_message,
    parse_client_frame,
    postmark_message,
)
from pennypost_mint.runtime.limits import (
    CPU_BURST,
    CPU_RATE,
    IN_FLIGHT,
    OUTGOING,
    OUTGOING_MOST,
    OUTGOING_SECONDS,
    QUERIES,
    WRITE,
)
from pennypost_mint.runtime.logs import logger
from pennypost_postoffice import queries, syncs
from pennypost_postoffice.auth import new_challenge
from pennypost_postoffice.live import Subscription
from pennypost_postoffice.outgoing import weight
from pennypost_postoffice.post import Answer, Post
from pennypost_postoffice.shares import Lately
from pennypost_postoffice.syncs import Sync

if TYPE_CHECKING:
    from pennypost_postoffice.office import Office
    from pennypost_postoffice.wire import Wire

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

Work = Callable[[], Awaitable[None]]
Refuse = Callable[[PennypostError], None]

# What work costs, in CPU microseconds of all processes, as `python -m tests.bench.costs` measured it (in brackets,
# twice and beside other work; docs/reference/performance.md).
COST_FRAME = 12
"""A CLOSE (11 to 12)."""
COST_REFUSED = 170
"""A look-up and an answer: a repeat (140 to 200), an ephemeral event that nobody listens to (160 to 220)."""
COST_PASSED_ON = 200
"""An ephemeral event, beside its deliveries (160 to 220)."""
COST_AUTH = 350
"""A signature and its answer (250 to 460)."""
COST_UNPAID = 450
"""A free event, stored (460 to 475)."""
COST_RELEASE = 700
"""A look-up of its own (600 to 875)."""

_COSTS = {"auth": COST_AUTH, "passed-on": COST_PASSED_ON}

TURN = 0.001
"""Seconds that the queries of one connection may take before it is the turn of others."""

log = logger("connection")


class Connection:
    """The state of one connection; `office.websocket` runs it."""

    def __init__(
        self, office: Office, origin: str, source: bytes, names: frozenset[str], wire: Wire | None = None
    ) -> None:
        self.origin = origin
        self.source = source
        self._names = names
        self._wire = wire
        self.authenticated: set[str] = set()
        self.rate_key = object()
        self.subscriptions: dict[str, Subscription] = {}
        self.syncs: dict[str, Sync] = {}
        self.office = office
        self._challenge = new_challenge()
        self._in_flight = 0
        self._queries: deque[tuple[Work, Refuse]] = deque()
        self._query_task: asyncio.Task[None] | None = None
        self._releases: set[asyncio.Task[None]] = set()
        self._release_turn = asyncio.Lock()
        self._outgoing: deque[str] = deque()
        self.waiting = 0
        """Bytes of what waits to be sent, and of what is being sent."""
        self.since = 0.0
        """When it last took something, or what waits began to (seconds of the monotonic clock)."""
        self._behind: asyncio.TimerHandle | None = None
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._drained = asyncio.Event()
        self._stalled = asyncio.Event()
        self._spent = 0.0
        self._spent_at = monotonic()
        self._lately = Lately()
        self.used = False
        """Whether it sent something since it was last asked (places.py)."""
        self.gave_way = False
        self._closed = False
        self._task: asyncio.Task[Any] | None = None

    async def run(self, receive: Receive, send: Send) -> None:
        """Serves until either side closes."""
        self._task = asyncio.current_task()
        tasks = [asyncio.create_task(self._write(send))]
        self.send(auth_message(self._challenge))
        try:
            if self._wire is not None:
                tasks.append(asyncio.create_task(self._resume_when_there_is_room(self._wire)))
                self._wire.listen(self._heard)
            while True:
                message = await receive()
                if message["type"] == "websocket.disconnect":
                    return
                self.received(message.get("text"))
                if self._is_full():
                    await self._wait_for_room()
        except asyncio.CancelledError:
            if not self._closed:
                raise
        finally:
            self.close()
            for task in tasks:
                task.cancel()

    def _heard(self, text: str | None) -> None:
        """One frame, straight from the socket."""
        if self._closed:
            return
        self.received(text)
        if self._is_full() and self._wire is not None:
            self._wire.pause()
            self._stalled.set()

    async def _resume_when_there_is_room(self, wire: Wire) -> None:
        while True:
            await self._stalled.wait()
            self._stalled.clear()
            await self._wait_for_room()
            wire.resume()

    def received(self, text: str | None) -> None:
        """One frame of the client; None for a binary one, which NIP-01 does not know."""
        self.used = True
        try:
            if text is None:
                raise InvalidFrame("binary")
            if _is_longer(text, self.office.settings.max_message):
                raise FrameTooLarge
            frame = parse_client_frame(text)
        except PennypostError as error:
            self.charge(COST_REFUSED)
            self.send(notice_message(error.nip01()))
            return
        if isinstance(frame, EventFrame):
            self._event(frame)
        elif isinstance(frame, ReqFrame):
            queries.req(self, frame)
        elif isinstance(frame, CountFrame):
            queries.count(self, frame)
        elif isinstance(frame, NegOpenFrame):
            syncs.neg_open(self, frame)
        elif isinstance(frame, NegMessageFrame):
            syncs.neg_message_of(self, frame)
        elif isinstance(frame, NegCloseFrame):
            self.charge(COST_FRAME)
            syncs.neg_close(self, frame)
        elif isinstance(frame, CloseFrame):
            self.charge(COST_FRAME)
            self.close_subscription(frame.subscription)
        elif isinstance(frame, ReleaseFrame):
            self._release(frame)
        else:
            self._auth(frame)

    def _event(self, frame: EventFrame) -> None:
        post = Post(self, monotonic())
        try:
            self.office.accept(post, frame.event, frame.token, frame.options)
        except PennypostError as error:
            self._refuse(frame, error)

    def _auth(self, frame: AuthFrame) -> None:
        post = Post(self, monotonic())
        try:
            self.office.accept_auth(post, frame.event, self._challenge, self._names)
        except PennypostError as error:
            self._refuse(frame, error)

    def _release(self, frame: ReleaseFrame) -> None:
        self.took()
        task = asyncio.create_task(self._serve_release(frame))
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)

    async def _serve_release(self, frame: ReleaseFrame) -> None:
        self.charge(COST_RELEASE)
        hold = bytes.fromhex(frame.hold)
        try:
            # one at a time, so that who sends hundreds waits for himself and not others for him
            async with self._release_turn:
                message = await self.office.holds.release(hold, frame.preimage, frame.identifier, self.source)
            self.send(ok_message(frame.hold, True, message))
        except PennypostError as error:
            self.send(ok_message(frame.hold, False, error.nip01()))
        except SQLAlchemyError as error:
            log.error("a release failed", kind=type(error).__name__)
            self.send(ok_message(frame.hold, False, ServerError().nip01()))
        finally:
            self._in_flight -= 1
            self._room.set()

    def _refuse(self, frame: EventFrame | AuthFrame, error: PennypostError) -> None:
        """Where there is no 64-digit id there is no OK but a NOTICE."""
        self.charge(COST_REFUSED)
        self.office.count(error.code)
        identifier = frame.id
        if identifier is None:
            self.send(notice_message(error.nip01()))
        else:
            self.send(ok_message(identifier, False, error.nip01()))

    def took(self) -> None:
        """An event of this connection is on its way."""
        self._in_flight += 1

    def answered(self, post: Post, answer: Answer) -> None:
        """An event of this connection is durable or refused."""
        self._in_flight -= 1
        if not answer.accepted or answer.code == "duplicate":
            self.charge(COST_REFUSED)
        elif not post.is_paid:
            self.charge(_COSTS.get(answer.code, COST_UNPAID))
        if answer.change:
            self.send(change_message(post.event.id, answer.change))
        if answer.postmark and post.postmark:
            self.send(postmark_message(post.event.id, answer.postmark))
        self.send(ok_message(post.event.id, answer.accepted, answer.message))
        if self._in_flight <= IN_FLIGHT // 2:
            self._room.set()

    @property
    def private(self) -> bool:
        """Whether gift wraps without a view tag go only to their authenticated receiver."""
        return self.office.live.private

    def open_subscription(self, subscription: Subscription) -> None:
        """From now on it hears what is new."""
        self.subscriptions[subscription.name] = subscription
        self.office.live.add(subscription)
        self.office.metrics.office_subscriptions.inc()

    def close_subscription(self, name: str) -> None:
        """Ends it, if there is one of that name."""
        subscription = self.subscriptions.pop(name, None)
        if subscription is not None:
            self.office.live.remove(subscription)
            self.office.metrics.office_subscriptions.dec()

    def refuse_query(self, text: str) -> None:
        """The answer to a query that is not even begun."""
        self.charge(COST_REFUSED)
        self.send(text)

    def ask(self, work: Work, refuse: Refuse) -> None:
        """Queues a query; `refuse` tells the client whatever it raises of our errors, or that the database failed."""
        self._queries.append((work, refuse))
        if self._query_task is None:
            self._query_task = asyncio.create_task(self._answer_queries())

    async def _answer_queries(self) -> None:
        """One query after the other; ends when none waits."""
        turn = monotonic()
        try:
            while self._queries:
                if monotonic() - turn > TURN:
                    # short reads never leave the event loop by themselves
                    await asyncio.sleep(0)
                    turn = monotonic()
                work, refuse = self._queries.popleft()
                try:
                    await work()
                except PennypostError as error:
                    refuse(error)
                except SQLAlchemyError as error:
                    log.error("a query failed", kind=type(error).__name__)
                    refuse(ServerError())
                self._room.set()
        finally:
            self._query_task = None

    def send(self, text: str) -> None:
        """Queues one frame; what is queued at once says nothing about the reader, only what he leaves does."""
        if self._closed:
            return
        if not self.waiting:
            self.since = monotonic()
        size = weight(text)
        self._outgoing.append(text)
        self.waiting += size
        everyone = self.office.outgoing
        everyone.size += size
        if self.waiting > OUTGOING_MOST:
            self.cut_off()
        elif self.waiting > OUTGOING and self._behind is None:
            self._behind = asyncio.get_running_loop().call_later(OUTGOING_SECONDS, self.cut_off)
        if everyone.size > everyone.most:
            everyone.relieve()
        self._more.set()

    def cut_off(self) -> None:
        """Closes the connection of a reader that is too slow."""
        if not self._closed and self._task is not None:
            self.office.metrics.office_slow_readers.inc()
            self.close()
            self._task.cancel()
            if self._wire is not None:
                self._wire.abort()

    def give_way(self) -> None:
        """Ends it, for its place is another's; `office.websocket` tells the client."""
        if not self._closed and self._task is not None:
            self.gave_way = True
            self.close()
            self._task.cancel()

    def close(self) -> None:
        """Forgets everything of this connection; events on their way are stored all the same."""
        self._closed = True
        self._caught_up()
        self._outgoing.clear()
        self.office.outgoing.size -= self.waiting
        self.waiting = 0
        self._queries.clear()
        if self._query_task is not None:
            self._query_task.cancel()
        for name in list(self.subscriptions):
            self.close_subscription(name)
        for name in list(self.syncs):
            syncs.close_sync(self, name)

    async def _write(self, send: Send) -> None:
        try:
            while True:
                while self._outgoing:
                    texts, size = self._next_texts()
                    if self._wire is not None:
                        await self._wire.send(texts)
                    else:
                        for text in texts:
                            await send({"type": "websocket.send", "text": text})
                    self._took(size)
                self._drained.set()
                self._more.clear()
                await self._more.wait()
        except OSError:
            # the client went away; `receive` says so, too
            self.close()

    def _next_texts(self) -> tuple[list[str], int]:
        """What goes into one write, WRITE bytes or one frame that is larger, and its bytes."""
        texts: list[str] = []
        size = 0
        while self._outgoing and (not texts or size + weight(self._outgoing[0]) <= WRITE):
            texts.append(self._outgoing.popleft())
            size += weight(texts[-1])
        return texts, size

    def _took(self, size: int) -> None:
        """That many bytes are on their way."""
        if self._closed:
            return
        self.waiting -= size
        self.office.outgoing.size -= size
        self.since = monotonic()
        if self.waiting <= OUTGOING:
            self._caught_up()

    def _caught_up(self) -> None:
        behind, self._behind = self._behind, None
        if behind is not None:
            behind.cancel()

    async def drain(self) -> None:
        """Waits until most of what was sent is on its way, then until the share of CPU allows more."""
        while self.waiting > (WRITE if self.office.outgoing.is_tight else OUTGOING // 4):
            self._drained.clear()
            await self._drained.wait()
        if (pause := self._overdrawn()) > 0:
            await asyncio.sleep(pause)

    def charge(self, microseconds: float) -> None:
        """Takes work off the connection's share of CPU, and its source's."""
        self._spent += microseconds
        self.office.shares.charge(self.source, self._lately, microseconds)

    def _overdrawn(self) -> float:
        """Seconds until this connection, and where CPU is scarce its source, is within its share of CPU again."""
        shares = self.office.shares
        if self._spent <= CPU_BURST and not shares.tight:
            return 0.0
        now = monotonic()
        self._spent = max(0.0, self._spent - (now - self._spent_at) * CPU_RATE)
        self._spent_at = now
        pause = max(0.0, self._spent - CPU_BURST) / CPU_RATE or shares.pause(self.source, self._lately)
        if pause > 0:
            self.office.metrics.office_slowed.inc()
        return pause

    def _is_full(self) -> bool:
        return (
            self._in_flight >= IN_FLIGHT
            or len(self._queries) >= QUERIES
            or self._spent > CPU_BURST
            or self.office.shares.tight
            or self.office.is_full
        )

    async def _wait_for_room(self) -> None:
        while True:
            if self._in_flight >= IN_FLIGHT or len(self._queries) >= QUERIES:
                self._room.clear()
                await self._room.wait()
            elif self.office.is_full:
                await self.office.room.wait()
            elif (pause := self._overdrawn()) > 0:
                await asyncio.sleep(pause)
            else:
                return


def _is_longer(text: str, most: int) -> bool:
    """Whether it is of more than `most` bytes."""
    return 4 * len(text) > most and (len(text) > most or len(text.encode()) > most)
