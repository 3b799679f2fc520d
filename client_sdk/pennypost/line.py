"""One WebSocket to a post office: frames out, answers back to whoever waits for them (NIP-01).

    post(event) ──▶ EVENT ──▶           ◀── OK ──────────────── matched by event id
    fetch(filter) ─▶ REQ, CLOSE ─▶      ◀── EVENT … EOSE ────── matched by subscription
    follow(filter) ▶ REQ ─▶             ◀── EVENT … EOSE EVENT …     until it is closed
    asked to sign in ─▶ AUTH ─▶         ◀── OK ──────────────── and asked once more (NIP-42), where there is a signer

It opens on first use and again after it broke. What does not belong to anything asked is dropped: a hostile office can
send nothing that is kept, and too much of it closes the line.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from pennypost.protocol import frames
from pennypost.protocol.errors import (
    TABLE,
    AuthRequired,
    InvalidEvent,
    InvalidInput,
    NotAllowed,
    OfficeMisbehaves,
    OfficeUnreachable,
    PennypostError,
    PolicyError,
    ServerError,
    TooMany,
)
from pennypost.protocol.event import Event, verify_event
from pennypost.protocol.filter import Filter, matches
from pennypost.transport import Transport, WebSocket

FRAME_LIMIT: Final = 512 * 1024
"""Bytes of one frame; an event of 128 KiB with everything in it escaped stays below."""
CHALLENGE_LIMIT: Final = 256
"""Characters of a challenge to sign in."""
NONSENSE_LIMIT: Final = 1_000
"""Frames in a row that nobody asked for, before the line is closed."""

_CODE: Final = re.compile(r"\[([a-z0-9-]{1,32})\]\s*\Z")
_BY_CODE: Final = {each.code: each for each in reversed(TABLE)}
_BY_PREFIX: Final[dict[str, type[PennypostError]]] = {
    "invalid": InvalidEvent,
    "rate-limited": TooMany,
    "error": ServerError,
    "auth-required": AuthRequired,
    "restricted": NotAllowed,
}


@dataclass(slots=True)
class _Subscription:
    wanted: Filter
    most: int
    done: asyncio.Future[None]
    events: list[Event] = field(default_factory=list[Event])
    live: asyncio.Queue[Event | PennypostError] | None = None
    """What comes after the stored events; the last is why there will be no more."""


class Line:
    """A connection to one office."""

    def __init__(self, transport: Transport, url: str, signer: Callable[[str], Event] | None = None) -> None:
        """`signer` makes the answer to a challenge, where this line may say who we are."""
        self._transport, self._url, self._signer = transport, url, signer
        self._challenge = ""
        self._socket: WebSocket | None = None
        self._reader: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._answers: dict[str, list[asyncio.Future[frames.OkMessage]]] = {}
        self._subscriptions: dict[str, _Subscription] = {}
        self._nonsense = 0

    async def post(self, event: Event, token: str | None, timeout: float) -> frames.OkMessage:
        """Send an event with its stamp; the office's OK. Raises OfficeUnreachable, also after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                return await self._asked(event.id, frames.event_frame(event, token))
        except TimeoutError:
            raise OfficeUnreachable("it does not say whether it has the letter") from None

    async def _asked(self, event_id: str, frame: str) -> frames.OkMessage:
        answer: asyncio.Future[frames.OkMessage] = asyncio.get_running_loop().create_future()
        waiting = self._answers.setdefault(event_id, [])
        waiting.append(answer)
        try:
            await self._send(frame)
            return await answer
        finally:
            waiting.remove(answer)
            if not waiting:
                self._answers.pop(event_id, None)

    async def fetch(self, wanted: Filter, *, most: int, timeout: float) -> list[Event]:
        """Stored events that fit, at most `most`; id and signature are checked, what does not fit is dropped.

        Raises OfficeUnreachable, OfficeMisbehaves, or the refusal of the office.
        """
        entry = _Subscription(wanted, most, asyncio.get_running_loop().create_future())
        name = await self._subscribe(entry, timeout)
        await self.leave(name)
        return [event for event in entry.events if _is_genuine(event)]

    async def follow(self, wanted: Filter, *, most: int, timeout: float) -> Live:
        """Events that fit, from now on: it is open when this returns; at most `most` wait to be read.

        Stored ones are not among them; the filter is to have `limit` 0. Raises as `fetch`. Close it.
        """
        loop = asyncio.get_running_loop()
        # One place more, for the reason of its end.
        entry = _Subscription(wanted, 0, loop.create_future(), live=asyncio.Queue(most + 1))
        return Live(self, await self._subscribe(entry, timeout), entry)

    async def _subscribe(self, entry: _Subscription, timeout: float) -> str:
        """Ask, and wait for what is stored; the name of the subscription, which is open."""
        try:
            async with asyncio.timeout(timeout):
                try:
                    return await self._ask(entry)
                except AuthRequired:
                    if self._signer is None or not self._challenge:
                        raise
                    signed = self._signer(self._challenge)
                    answer = await self._asked(signed.id, frames.auth_frame(signed))
                    if not answer.accepted:
                        raise refusal(answer.message) from None
                    entry.done = asyncio.get_running_loop().create_future()
                    return await self._ask(entry)
        except TimeoutError:
            raise OfficeUnreachable("it does not finish its answer") from None

    async def _ask(self, entry: _Subscription) -> str:
        name = secrets.token_hex(8)
        self._subscriptions[name] = entry
        try:
            await self._send(frames.req_frame(name, entry.wanted))
            await entry.done
        except BaseException:
            del self._subscriptions[name]
            raise
        return name

    async def leave(self, name: str) -> None:
        """End a subscription."""
        if self._subscriptions.pop(name, None) is not None and self._reader is not None and not self._reader.done():
            with suppress(OfficeUnreachable):
                await self._send(frames.close_frame(name))

    async def close(self) -> None:
        """Close the connection; the next use opens another."""
        reader, socket = self._reader, self._socket
        self._reader = self._socket = None
        if reader is not None:
            reader.cancel()
            await asyncio.wait({reader})
        if socket is not None:
            await socket.close()

    async def _send(self, text: str) -> None:
        async with self._opening:
            if self._reader is None or self._reader.done():
                await self.close()
                self._challenge = ""
                self._socket = await self._transport.websocket(self._url, limit=FRAME_LIMIT)
                self._reader = asyncio.create_task(self._read(self._socket))
            socket = self._socket
        assert socket is not None
        await socket.send(text)

    async def _read(self, socket: WebSocket) -> None:
        error: PennypostError = OfficeUnreachable("the connection was closed")
        self._nonsense = 0
        try:
            while self._nonsense < NONSENSE_LIMIT:
                self._take(await socket.receive())
            error = OfficeMisbehaves("it sends what nobody asked for")
        except (OfficeUnreachable, OfficeMisbehaves) as found:
            error = found
        finally:
            self._fail(error)
            await socket.close()

    def _take(self, text: str | bytes) -> None:
        self._nonsense += 1
        try:
            message = frames.parse_relay_frame(text)
        except InvalidInput:
            return
        match message:
            case frames.OkMessage(id=id) if id in self._answers:
                for answer in self._answers[id]:
                    if not answer.done():
                        answer.set_result(message)
            case frames.EventMessage(subscription=name, event=event) if name in self._subscriptions:
                if not _keep(self._subscriptions[name], event):
                    return
            case frames.EoseMessage(subscription=name) if name in self._subscriptions:
                _end(self._subscriptions[name].done)
            case frames.ClosedMessage(subscription=name, message=reason) if name in self._subscriptions:
                _end_all(self._subscriptions[name], refusal(reason)())
            case frames.AuthMessage(challenge=challenge) if len(challenge) <= CHALLENGE_LIMIT:
                self._challenge = challenge
                return
            case _:
                return
        self._nonsense = 0

    def _fail(self, error: PennypostError) -> None:
        for waiting in self._answers.values():
            for answer in waiting:
                if not answer.done():
                    answer.set_exception(error)
        for entry in self._subscriptions.values():
            _end_all(entry, error)


class Live:
    """An open subscription. Close it, or use it with `async with`."""

    def __init__(self, line: Line, name: str, entry: _Subscription) -> None:
        self._line, self._name, self._entry = line, name, entry

    async def next(self) -> Event:
        """The next event, genuine. Raises what ended the subscription: OfficeUnreachable, OfficeMisbehaves, …"""
        assert self._entry.live is not None
        while True:
            found = await self._entry.live.get()
            if isinstance(found, PennypostError):
                raise found
            if _is_genuine(found):
                return found

    async def __aenter__(self) -> Live:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._line.leave(self._name)


def _keep(entry: _Subscription, event: Event) -> bool:
    """Take an event that was asked for; False for any other."""
    if not matches(entry.wanted, event):
        return False
    if entry.live is not None and entry.done.done():
        if entry.live.qsize() < entry.live.maxsize - 1:
            entry.live.put_nowait(event)
        else:
            _end_all(entry, OfficeUnreachable("more comes than is read"))
        return True
    if len(entry.events) >= entry.most:
        return False
    entry.events.append(event)
    return True


def _end_all(entry: _Subscription, error: PennypostError) -> None:
    """There will be no more of it."""
    if not entry.done.done():
        _end(entry.done, error)
    elif entry.live is not None and not entry.live.full():
        entry.live.put_nowait(error)


def _end(done: asyncio.Future[None], error: PennypostError | None = None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


def refusal(message: str) -> type[PennypostError]:
    """The error that the text of an OK, CLOSED or NOTICE stands for: by its `[code]`, else by its prefix (NIP-01)."""
    code = _CODE.search(message[-64:])
    if code is not None and code[1] in _BY_CODE:
        return _BY_CODE[code[1]]
    return _BY_PREFIX.get(message.partition(":")[0].strip(), PolicyError)


def filter_of(authors: Sequence[bytes], kind: int) -> Filter:
    """Events of one kind by these 32-byte keys."""
    return Filter(authors=tuple(key.hex() for key in authors), kinds=(kind,))


def _is_genuine(event: Event) -> bool:
    try:
        verify_event(event)
    except InvalidEvent:
        return False
    return True
