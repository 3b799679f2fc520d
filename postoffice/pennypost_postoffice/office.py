"""The post office of one process: what it consists of, and how its parts reach each other."""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from time import monotonic
from typing import Any

from pennypost.protocol.errors import ConfigurationError, NobodyListening, Overloaded, PennypostError, ServerError
from pennypost.protocol.event import Event, is_ephemeral, parse_event
from pennypost.protocol.price import PriceList
from pennypost_mint.api import Keyring, SignedOutput, Workers
from pennypost_mint.runtime.database import Database
from pennypost_mint.runtime.limits import FLOOR_BURST, FLOOR_RATE, HELD_BACK, IN_FLIGHT_BYTES, LITTLE_CPU, VERIFY_QUEUE
from pennypost_mint.runtime.logs import logger
from pennypost_mint.runtime.metrics import Metrics
from pennypost_mint.runtime.settings import Settings
from pennypost_mint.runtime.sources import Sources
from pennypost_postoffice import accept as accepting
from pennypost_postoffice.auth import check_room, own_names, relay_name
from pennypost_postoffice.bans import Bans, bans_on
from pennypost_postoffice.bus.choice import open_bus
from pennypost_postoffice.commit import Planned
from pennypost_postoffice.connection import Connection, Receive, Scope, Send
from pennypost_postoffice.feed import Feed
from pennypost_postoffice.follow import Follower, Published
from pennypost_postoffice.foreign.service import Foreign
from pennypost_postoffice.former_prices import FormerPrices
from pennypost_postoffice.group import Committer
from pennypost_postoffice.holds import Holds
from pennypost_postoffice.live import Live
from pennypost_postoffice.marks import BANS, PRICES, RELOAD, marks_on
from pennypost_postoffice.operate.prices import edited, load_prices
from pennypost_postoffice.outgoing import Outgoing
from pennypost_postoffice.places import Places
from pennypost_postoffice.policy import Policy
from pennypost_postoffice.post import Answer, Post, refusal
from pennypost_postoffice.postmark import Postmarks
from pennypost_postoffice.recent import Recent
from pennypost_postoffice.retention import Retention
from pennypost_postoffice.shares import Shares
from pennypost_postoffice.stamps import StampReader, mint_name
from pennypost_postoffice.syncs import Syncs
from pennypost_postoffice.tallies import Tallies
from pennypost_postoffice.unpriced import Unpriced
from pennypost_postoffice.vanish import Vanisher
from pennypost_postoffice.verify import Verifier
from pennypost_postoffice.wire import EXTENSION, Wire

OVERDUE_EVERY = 1.0
"""Seconds between two looks for events that have waited too long."""

CLOSE_TRY_LATER = 1013

CLOSE_SECONDS = 10.0
"""After which a connection that was told to come later is cut off."""

MICROSECONDS = 1_000_000

ACCEPTED = frozenset({"accepted", "duplicate", "auth", "passed-on"})
"""Codes of answers that are no refusals."""

log = logger("office")


class Office:
    """A relay behind a stamp: `open`, `start`, `websocket` and the routes, `close`."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        keyring: Keyring,
        workers: Workers,
        metrics: Metrics,
        prices: PriceList,
        edit: PriceList | None = None,
        seed: bytes | None = None,
    ) -> None:
        """`prices`: of the price file; `edit`: those that the operator set meanwhile, which go before them."""
        self.database = database
        self.settings = settings
        self.keyring = keyring
        self.workers = workers
        self.metrics = metrics
        self._file_prices, self._edit = prices, edit
        self.policy = Policy(prices if edit is None else edit, settings, monotonic)
        self.former_prices = FormerPrices(self)
        own = [settings.url] * bool(keyring.keysets)
        self.mints = own + [each for each in settings.mints if each not in own]
        """Addresses of the mints whose stamps are taken, our own first."""
        self.stamps = StampReader(
            keyring, self.mints[0], f"{settings.url}/buy", settings.max_proofs, settings.max_change
        )
        self.relay_names = {name for name in [relay_name(settings.url)] if name}
        self.recent = Recent()
        self.live = Live(private=settings.private_wraps)
        self.feed = Feed(self)
        self.outgoing = Outgoing(lambda: self._connections, settings.max_outgoing, metrics.office_slow_readers.inc)
        self.unpriced = Unpriced(metrics)
        self.revision = 0
        """Rises whenever what the office says of itself changes."""
        self.on_reload: Callable[[], None] = lambda: None
        """Called when an operator asks all processes to read their settings again."""
        self.tallies = Tallies(self)
        self.follower = Follower(self, self._marks)
        self.bus = open_bus(self)
        self.marks: dict[str, str] | None = None
        """What all processes of this office share, as it was last read."""
        self.sources = Sources(settings.proxies)
        self.shares = Shares(settings.read_cpu * MICROSECONDS, LITTLE_CPU, (FLOOR_RATE, FLOOR_BURST), monotonic)
        self.holds = Holds(self)
        self.postmarks = Postmarks(self)
        self.verifier = Verifier(self, at_once=max(2, 2 * len(workers.pids)))
        self.committer = Committer(self)
        self.foreign = Foreign(self, settings.mints, seed) if seed is not None else None
        """Stamps of mints elsewhere; None where none are taken."""
        self.vanisher = Vanisher(self)
        self.syncs = Syncs(settings.all_sync)
        self.retention = Retention(self, settings.sweep_every)
        self.in_flight: dict[Post, None] = {}
        """Events without an answer, the oldest first."""
        self._in_flight_bytes = 0
        self.room = asyncio.Event()
        """Set while the office takes more events."""
        self.room.set()
        self.on_spent: Callable[[Iterable[bytes]], None] | None = None
        """Told the Ys of stamps taken, after the commit; the mint tells those who watch them (NUT-17)."""
        self._connections: Places[Connection] = Places()
        self._tasks: list[asyncio.Task[None]] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False
        self._counters: dict[str, Any] = {}
        metrics.office_verify_waiting.set_function(lambda: self.verifier.waiting)
        metrics.office_commit_waiting.set_function(lambda: self.committer.waiting)
        metrics.office_feed_waiters.set_function(lambda: self.feed.waiters)
        metrics.office_outgoing_bytes.set_function(lambda: self.outgoing.size)
        metrics.office_reads.set_function(lambda: self.feed.reading)
        metrics.office_connections.set_function(lambda: len(self._connections))

    @classmethod
    async def open(
        cls,
        database: Database,
        settings: Settings,
        keyring: Keyring,
        workers: Workers,
        metrics: Metrics,
        seed: bytes | None = None,
    ) -> Office:
        """A post office on a migrated database; `workers` know OFFICE_JOBS, and FOREIGN_JOBS where a `seed` is given:
        that of what is earned at mints elsewhere (32 bytes). Raises ConfigurationError, DatabaseUnavailable.
        """
        prices, edit = load_prices(settings.price_file), await edited(database)
        return cls(database, settings, keyring, workers, metrics, prices, edit, seed)

    async def start(self) -> None:
        """Starts the stages; what has expired is deleted from now on. Raises DatabaseUnavailable."""
        await self.former_prices.start()
        await self.follower.start()
        stages = [self.verifier.run(), self.committer.run(), self.follower.run(), self.retention.run(), self._overdue()]
        stages.append(self.tallies.run())
        stages.append(self.vanisher.run())
        stages.append(self.former_prices.run())
        if self.bus is not None:
            stages.append(self.bus.run())
        if self.foreign is not None:
            stages.append(self.foreign.run())
        self._tasks = [asyncio.create_task(stage) for stage in stages]
        for task in self._tasks:
            task.add_done_callback(_report)

    async def drain(self) -> None:
        """Takes no more events, and waits until each taken so far is answered; at most HELD_BACK seconds."""
        self._closing = True
        self.room.clear()
        self.feed.close()
        if self.foreign is not None:
            self.foreign.closing()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), HELD_BACK)

    async def close(self) -> None:
        """Answers what is in flight, then stops."""
        await self.drain()
        for task in self._tasks:
            task.remove_done_callback(_report)
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.tallies.write()
        if self.foreign is not None:
            await self.foreign.close()

    @property
    def is_full(self) -> bool:
        """Whether sockets are not read until something is answered."""
        return self._closing or len(self.in_flight) >= VERIFY_QUEUE or self._in_flight_bytes >= IN_FLIGHT_BYTES

    def now(self) -> int:
        """Unix seconds."""
        return int(time.time())

    def accept(self, post: Post, event: object, token: object, options: object) -> None:
        """Takes an event with its stamp; `post.sender` is answered later, once. Raises as `accept.accept`."""
        accepting.accept(self, post, event, token, options)
        self.took(post)

    def accept_auth(self, post: Post, event: object, challenge: str, names: Set[str]) -> None:
        """Takes the answer to an AUTH challenge. Raises as `accept.accept_auth`."""
        accepting.accept_auth(self, post, event, challenge, names)
        self.took(post)

    def took(self, post: Post) -> None:
        """An event is on its way: it gets one answer."""
        self.in_flight[post] = None
        self._in_flight_bytes += len(post.body)
        self._idle.clear()
        post.sender.took()
        if self.is_full:
            self.room.clear()

    def unanswered(self, posts: list[Post]) -> list[Post]:
        """Those that still wait for an answer; the others were told to try again."""
        return [post for post in posts if post in self.in_flight]

    def answer(self, post: Post, answer: Answer) -> None:
        """The one answer to an event; a second one is dropped."""
        if post not in self.in_flight:
            return
        del self.in_flight[post]
        self._in_flight_bytes -= len(post.body)
        if not self.in_flight:
            self._idle.set()
        self.count(answer.code)
        self.metrics.office_answer_seconds.observe(monotonic() - post.arrived)
        post.sender.answered(post, answer)
        if not self.is_full:
            self.room.set()

    def failed(self, posts: list[Post], error: Exception) -> None:
        """Something broke that nobody foresaw: these events are answered, their stamps are as the database has them."""
        log.error("events could not be handled", events=len(posts), error=where(error))
        for post in posts:
            self.answer(post, refusal(ServerError()))

    def count(self, code: str) -> None:
        """Counts an answer by its code."""
        counter = self._counters.get(code)
        if counter is None:
            counter = self._counters[code] = self.metrics.office_events.labels(code)
        counter.inc()
        if code not in ACCEPTED:
            self.tallies.refused(code)

    def authenticated(self, post: Post) -> None:
        """A verified answer to the sender's challenge (NIP-42)."""
        try:
            # again: many may have been verified at once
            check_room(post.event.pubkey, post.sender.authenticated)
        except PennypostError as error:
            self.answer(post, refusal(error))
            return
        post.sender.authenticated.add(post.event.pubkey)
        self.answer(post, Answer(True, "", "auth"))

    def pass_on(self, post: Post) -> None:
        """A verified ephemeral event: to whoever listens now, here or at another process, and nowhere else."""
        here = self.live.publish(post.event, post.body)
        elsewhere = self.bus is not None and self.bus.pass_on(post.body)
        if here or elsewhere:
            self.answer(post, Answer(True, "accepted: passed on, not kept", "passed-on"))
        else:
            self.answer(post, refusal(NobodyListening()))

    @property
    def bus_is_up(self) -> bool:
        """Whether other processes tell us of what they store."""
        return self.bus is not None and self.bus.is_up

    def passed_on(self, body: bytes) -> None:
        """An ephemeral event that another process took."""
        try:
            event = parse_event(body)
        except PennypostError:
            return
        if is_ephemeral(event.kind):
            self.live.publish(event, body)

    async def _marks(self, marks: dict[str, str]) -> None:
        """What the processes of this office share was read. Raises DatabaseUnavailable."""
        before = self.marks
        if marks == before:
            return
        if before is None or marks.get(BANS) != before.get(BANS):
            self.policy.bans = Bans(await self.database.read(bans_on))
        if marks.get(PRICES) != (before or {}).get(PRICES):
            await self._change_prices()
        self.marks = marks
        self.revision += 1
        if before is not None and marks.get(RELOAD) != before.get(RELOAD):
            self.on_reload()

    def look_at_marks(self) -> None:
        """Something that all processes share was changed here."""
        self.follower.look_at_marks()
        if self.bus is not None:
            self.bus.marks_changed()

    async def marks_changed(self) -> None:
        """Something that all processes share was changed here, and this one knows it on return.

        Raises DatabaseUnavailable.
        """
        await self._marks(await self.database.read(marks_on))
        self.look_at_marks()

    async def _change_prices(self) -> None:
        """The operator set other prices, or gave the price file back. Raises DatabaseUnavailable."""
        try:
            self._edit = await edited(self.database)
        except ConfigurationError as error:
            # of a later version than ours, whose price file knew more
            log.error("the prices stay as they are", reason=str(error))
            return
        self._ask()

    def _ask(self) -> None:
        self.policy.change_prices(self._file_prices if self._edit is None else self._edit, self.now())
        self.former_prices.changed()

    def reload(self, settings: Settings, prices: PriceList) -> None:
        """Takes on what may change while it runs (settings.RELOADED); `prices` are those of the price file."""
        self.settings = settings
        self._file_prices = prices
        self.policy.change_settings(settings)
        self.shares.change(settings.read_cpu * MICROSECONDS)
        self.outgoing.most = settings.max_outgoing
        self.syncs.most = settings.all_sync
        self.stamps.limit(settings.max_proofs, settings.max_change)
        self._ask()
        self.live.private = settings.private_wraps
        self.sources.trust(settings.proxies)
        self.retention.every = settings.sweep_every
        self.revision += 1

    def committed(self, first: int, stored: list[Planned]) -> None:
        """After a commit and its answers: subscribers and readers of the feed; its numbers begin with `first`."""
        if not stored:
            return
        self._added(first, [None if plan.held else (plan.post.event, plan.post.body) for plan in stored])
        kinds: dict[int, tuple[int, int]] = {}
        news = False
        for plan in stored:
            news = news or plan.post.record is not None
            sat = plan.post.stamp.sat if plan.spends and plan.post.stamp is not None else 0
            if plan.post.paid is not None:
                sat = plan.post.paid.sat
            if plan.post.unpaid and plan.post.is_unpriced:
                self.unpriced.stored(len(plan.post.body))
            count, before = kinds.get(plan.post.event.kind, (0, 0))
            kinds[plan.post.event.kind] = (count + 1, before + sat)
        for kind, (count, sat) in kinds.items():
            self.tallies.stored(kind, count, sat)
            self.metrics.office_stamps_sat.inc(sat)
        if self.on_spent is not None:
            self.on_spent(y for plan in stored if plan.spends for y in plan.post.ys)
        if news:
            self.feed.grew()

    def released(self, first: int, opened: list[tuple[Event, bytes]]) -> None:
        """After the commit of a release: the same for what it opened."""
        if opened:
            self._added(first, opened)
            self.feed.grew()

    def _added(self, first: int, added: Sequence[Published]) -> None:
        self.follower.committed(first, added)
        if self.bus is not None:
            self.bus.reached(first + len(added) - 1)

    def change_of(self, signed: list[SignedOutput]) -> list[dict[str, Any]] | None:
        """Blind signatures as NUT-00 and NUT-12 write them; None when there are none."""
        return [
            {
                "id": self.keyring.at(position).id,
                "amount": amount,
                "C_": signature.c.hex(),
                "dleq": {"e": signature.e.hex(), "s": signature.s.hex()},
            }
            for position, amount, signature in signed
        ] or None

    def change_made(self, post: Post) -> list[dict[str, Any]] | None:
        """The change of an event that was just stored."""
        if not post.outputs:
            return None
        pairs = zip(post.outputs, post.signatures, strict=True)
        return self.change_of([(output.blank.position, output.amount, signature) for output, signature in pairs])

    async def websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application of `/` over WebSocket."""
        await receive()
        await send({"type": "websocket.accept"})
        wire: Wire | None = scope.get("extensions", {}).get(EXTENSION)
        origin = origin_of(scope)
        names = own_names(scope.get("server"), origin)
        connection = Connection(self, origin, self.sources.of(scope), names, wire)
        self._connections.take(connection, self.settings.max_connections)
        try:
            await connection.run(receive, send)
        finally:
            self._connections.leave(connection)
        if connection.gave_way:
            if wire is not None:
                # whether it reads this or not
                asyncio.get_running_loop().call_later(CLOSE_SECONDS, wire.abort)
            with contextlib.suppress(OSError):
                await send({"type": "websocket.close", "code": CLOSE_TRY_LATER, "reason": "too many connections"})

    async def _overdue(self) -> None:
        """Nobody waits longer than HELD_BACK for an answer; the event may be stored yet, and repeating it is safe."""
        while True:
            await asyncio.sleep(OVERDUE_EVERY)
            limit = monotonic() - HELD_BACK
            for post in list(self.in_flight):
                if post.arrived > limit:
                    break
                self.answer(post, refusal(Overloaded("this took too long")))


def origin_of(scope: Mapping[str, Any]) -> str:
    """`host[:port]` by which a connection reached us, as `mint_name` writes it; "" when it does not say."""
    for name, value in scope["headers"]:
        if name == b"host":
            return mint_name(f"http://{value.decode('latin-1')}") or ""
    return ""


def where(error: BaseException) -> str:
    """The kind of an error and the place it was raised at: its text could hold a token, a key or an address."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {frames[-1].name}, line {frames[-1].lineno}" if frames else ""
    return type(error).__name__ + place


def _report(task: asyncio.Task[None]) -> None:
    """A stage never ends by itself: without it nothing is answered, so the process must not go on in silence."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("a stage of the post office ended", error=where(error))
