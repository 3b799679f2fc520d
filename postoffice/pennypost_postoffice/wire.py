"""uvicorn's WebSocket with a short way for what nearly every frame is: one whole text, masked, not compressed.

    bytes ─▶ _split ─┬─ whole text frame ─────────────────▶ Connection.received   (no queue, no task, no ASGI message)
                     └─ ping, close, fragment, anything odd ▶ websockets' parser ─▶ uvicorn, text from there also to us
    many texts ─▶ send_texts ─▶ one write
    abort: a reader that takes nothing is not waited for

What takes the long way is bounded, for no connection is charged for it: more than ODD_BURST such frames at once and the
connection is not read for a while; of the pings of one who does not read the last is answered; a message has FRAGMENTS.

A connection finds this as `scope["extensions"][EXTENSION]`, and works by plain ASGI where it is absent. The short way
knows only the head of a frame (RFC 6455, section 5.2): whatever is not exactly that text frame goes to the full parser,
whole, so that the parser always begins at the start of a frame. It saves 7 of the loop's 75 µs a letter.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from struct import Struct
from time import monotonic
from typing import Any, NamedTuple

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request
from websockets.protocol import State

from pennypost_mint.runtime.limits import FRAGMENTS, ODD_BURST, ODD_RATE, ODD_REST, TURN, WRITE

try:
    from websockets.speedups import apply_mask
except ImportError:  # where its compiled part is missing
    from websockets.utils import apply_mask

EXTENSION = "pennypost.wire"

WAIT_FOR = WRITE
"""Bytes of a frame that are collected here; a longer one goes to the full parser as it comes."""

_FINAL_TEXT = 0x81
_MASKED = 0x80
_SHORT = Struct("!BB")
_MEDIUM = Struct("!BBH")
_LONG = Struct("!BBQ")


class Wire(NamedTuple):
    """What a connection may use where the server offers it."""

    listen: Callable[[Callable[[str | None], None]], None]
    """From now on every text comes to this function, None for a binary message; `receive` then only tells the end."""
    pause: Callable[[], None]
    resume: Callable[[], None]
    send: Callable[[Sequence[str]], Awaitable[None]]
    abort: Callable[[], None]


def frame(text: str) -> bytes:
    """One text frame from server to client: not masked, not fragmented (RFC 6455, section 5.2)."""
    payload = text.encode()
    size = len(payload)
    if size < 126:
        return _SHORT.pack(_FINAL_TEXT, size) + payload
    if size < 65_536:
        return _MEDIUM.pack(_FINAL_TEXT, 126, size) + payload
    return _LONG.pack(_FINAL_TEXT, 127, size) + payload


def measure(data: bytes | bytearray, at: int) -> tuple[int, int] | None:
    """Bytes of the head (mask included) and of the payload of the frame at `at`; None while its head is incomplete."""
    left = len(data) - at
    if left < 2:
        return None
    short = data[at + 1] & 127
    mask = 4 if data[at + 1] & _MASKED else 0
    if short < 126:
        return (2 + mask, short) if left >= 2 + mask else None
    width = 2 if short == 126 else 8
    head = 2 + width + mask
    return (head, int.from_bytes(data[at + 2 : at + 2 + width])) if left >= head else None


class WireProtocol(WebSocketsSansIOProtocol):
    """For `uvicorn.Config(ws=…)`. `_sink` is None until a connection listens, and stays so for others' applications."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sink: Callable[[str | None], None] | None = None
        self._waiting = False
        self._received = 0
        self._buffer = bytearray()
        self._owed = 0
        self._framed = False
        self._paused = False
        self._resting = False
        self._odd = 0.0
        self._odd_at = 0.0
        self._pong = b""

    def handle_connect(self, event: Request) -> None:
        """Offers the extension to the application; until it listens or receives, what comes is kept."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            self._framed = self._waiting = True
            wire = Wire(self._listen, self._pause, self._resume, self._send_texts, self._abort)
            self.scope["extensions"][EXTENSION] = wire  # type: ignore[index]

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        if not self._framed:
            super().data_received(data)
            return
        self._buffer += data
        if self._waiting or self._is_stopped:
            self.transport.pause_reading()
            return
        began = monotonic()
        self._split()
        if monotonic() - began > TURN and not self._is_stopped and not self.transport.is_closing():
            # or the loop would read on from here alone
            self._resting = True
            self.transport.pause_reading()
            self.loop.call_soon(self._rested)

    async def receive(self) -> Any:
        """The first call is for `websocket.connect`; a second one without `listen` is plain ASGI."""
        self._received += 1
        if self._waiting and self._received > 1:
            self._waiting = False
            self._go_on()
        return await super().receive()

    def handle_cont(self, event: Frame) -> None:
        """A fragment. Empty ones add nothing to a message's size, and are bounded by their number."""
        if len(self.frames) >= FRAGMENTS:
            self.conn.send_close(CloseCode.MESSAGE_TOO_BIG)
            self.handle_parser_exception()
            return
        super().handle_cont(event)

    def handle_ping(self) -> None:
        """The answer; while the client takes nothing the last one alone waits (RFC 6455, section 5.5.3)."""
        pong = b"".join(self.conn.data_to_send())
        if self.writable.is_set():
            self.transport.write(pong)
        else:
            self._pong = pong

    def resume_writing(self) -> None:
        """The client takes what is sent."""
        super().resume_writing()
        pong, self._pong = self._pong, b""
        if pong and self.conn.state is State.OPEN:
            self.transport.write(pong)

    def send_receive_event_to_app(self) -> None:
        """A message that took the long way."""
        if self._sink is None:
            super().send_receive_event_to_app()
            return
        data, self.frames = b"".join(self.frames), []
        if self.close_sent:
            return
        if self.curr_msg_data_type != "text":
            self._sink(None)
            return
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self.conn.send_close(1007)
            self.handle_parser_exception()
            return
        self._sink(text)

    def _listen(self, sink: Callable[[str | None], None]) -> None:
        self._sink, self._waiting = sink, False
        self._go_on()

    @property
    def _is_stopped(self) -> bool:
        return self._paused or self._resting

    def _go_on(self) -> None:
        """Reads on, unless something else still stands against it."""
        if not self._is_stopped:
            self._split()
        if not (self._is_stopped or self.read_paused or self.transport.is_closing()):
            self.transport.resume_reading()

    def _count_odd(self) -> None:
        """One more frame on the long way; past ODD_BURST reading rests."""
        now = self.loop.time()
        self._odd = max(0.0, self._odd - (now - self._odd_at) * ODD_RATE) + 1
        self._odd_at = now
        if self._odd > ODD_BURST:
            self._resting = True
            self.transport.pause_reading()
            self.loop.call_later(ODD_REST, self._rested)

    def _rested(self) -> None:
        self._resting = False
        self._go_on()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._go_on()

    def _split(self) -> None:
        buffer, at = self._buffer, 0
        while not self._is_stopped and not self.transport.is_closing():
            if self._owed:
                part = bytes(buffer[at : at + self._owed])
                if not part:
                    break
                at += len(part)
                self._owed -= len(part)
                super().data_received(part)
                continue
            found = measure(buffer, at)
            if found is None:
                break
            head, size = found
            end = at + head + size
            if self._sink is not None and self._is_whole_text(buffer, at, head) and size <= WAIT_FOR:
                if end > len(buffer):
                    break
                text = self._text(buffer, at + head, end)
                if text is not None:
                    at = end
                    self._sink(text)
                    continue
            self._owed = head + size
            self._count_odd()
            # the limit of now: a reload changes it under open connections, too
            self.conn.max_message_size = self.config.ws_max_size
        del buffer[:at]

    def _is_whole_text(self, buffer: bytearray, at: int, head: int) -> bool:
        return (
            buffer[at] == _FINAL_TEXT
            and buffer[at + 1] & _MASKED != 0
            and self.conn.current_size is None
            and self.conn.state is State.OPEN
        )

    def _text(self, buffer: bytearray, start: int, end: int) -> str | None:
        """The text of a frame; None when it is no UTF-8, which the full parser answers."""
        try:
            return apply_mask(buffer[start:end], buffer[start - 4 : start]).decode()
        except UnicodeDecodeError:
            return None

    async def _send_texts(self, texts: Sequence[str]) -> None:
        """Writes the frames together; waits first while the client does not read. Raises ClientDisconnected."""
        await self.writable.wait()
        if self.disconnected or self.close_sent or self.conn.state is not State.OPEN:
            raise ClientDisconnected
        self.transport.write(b"".join(map(frame, texts)))

    def _abort(self) -> None:
        """Ends the connection now, whatever waits to be sent."""
        self.transport.abort()
