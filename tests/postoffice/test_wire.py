"""The short way of a frame agrees with the full parser, however bytes arrive; what is odd ends as the RFC says."""

from __future__ import annotations

import asyncio
import json
import random
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from tests.postoffice.house import Author, House, wrap
from tests.support.relay import plain

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def house(shared_house: House) -> House:
    return shared_house


class Raw:
    """A client that decides which bytes go together."""

    def __init__(self, house: House, path: str = "/") -> None:
        self._address = urlsplit(house.url)
        self.protocol = ClientProtocol(parse_uri(house.websocket_url.rstrip("/") + path), max_size=None)
        self._events: list[Any] = []

    async def __aenter__(self) -> Raw:
        self.reader, self.writer = await asyncio.open_connection(self._address.hostname, self._address.port)
        self.protocol.send_request(self.protocol.connect())
        self.writer.write(self.made())
        response = await self._event()
        assert isinstance(response, Response) and response.status_code == 101
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()

    def made(self) -> bytes:
        """What the protocol wants to send."""
        return b"".join(self.protocol.data_to_send())

    def text(self, value: Any) -> bytes:
        """A whole text frame."""
        self.protocol.send_text(value.encode() if isinstance(value, str) else value)
        return self.made()

    async def write(self, data: bytes, sizes: Any = None) -> None:
        """Writes in pieces, so that the server reads each alone."""
        at = 0
        while at < len(data):
            size = len(data) if sizes is None else next(sizes)
            self.writer.write(data[at : at + size])
            await self.writer.drain()
            if sizes is not None:
                await asyncio.sleep(0)
            at += size

    async def _event(self) -> Any:
        async with asyncio.timeout(20):
            while not self._events:
                data = await self.reader.read(65_536)
                if data:
                    self.protocol.receive_data(data)
                else:
                    self.protocol.receive_eof()
                self._events += self.protocol.events_received()
                if not data and not self._events:
                    raise ConnectionResetError
        return self._events.pop(0)

    async def next(self) -> list[Any]:
        """The next text from the server, decoded."""
        while True:
            event = await self._event()
            if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                return json.loads(bytes(event.data))
            if isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
                close = Close.parse(event.data)
                return ["close", int(close.code)]
            assert isinstance(event, Frame) and event.opcode is Opcode.PONG
            return ["pong", bytes(event.data)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 1_000, 5_000])
async def test_bytes_in_pieces(house: House, size: int) -> None:
    """Letters, pings of WebSocket and bare texts, cut anywhere: every answer, in order."""
    events = [wrap(content="x" * length) for length in (0, 60, 3_000)]
    async with Raw(house) as raw:
        assert (await raw.next())[0] == "AUTH"
        data = b""
        for event in events:
            data += raw.text("ping")
            raw.protocol.send_ping(b"are you there")
            data += raw.made()
            data += raw.text(json.dumps(["EVENT", plain(event), house.purse.token()]))
        await raw.write(data, iter(lambda: size, None))
        answers = [await raw.next() for _ in range(9)]
        assert [answer[0] for answer in answers if answer[0] == "NOTICE"] == ["NOTICE"] * 3
        assert [answer for answer in answers if answer[0] == "pong"] == [["pong", b"are you there"]] * 3
        assert [answer[1:3] for answer in answers if answer[0] == "OK"] == [[event.id, True] for event in events]


async def test_random_pieces(house: House) -> None:
    chance = random.Random(7)
    authors = [Author() for _ in range(5)]
    async with Raw(house) as raw:
        await raw.next()
        for _ in range(10):
            events = [chance.choice(authors).sign(1, content="é" * chance.randrange(400)) for _ in range(8)]
            data = b"".join(raw.text(json.dumps(["EVENT", plain(event), house.purse.token()])) for event in events)
            await raw.write(data, iter(lambda: chance.choice((1, 5, 50, 900, 9_000)), None))
            answers = [await raw.next() for _ in events]
            assert {answer[1] for answer in answers} == {event.id for event in events}
            assert all(answer[2] is True for answer in answers), answers


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 65_537, 200_000])
async def test_lengths(house: House, length: int) -> None:
    """Each form of a length, on the short way and beyond it."""
    async with Raw(house) as raw:
        await raw.next()
        await raw.write(raw.text("x" * length) + raw.text("ping"))
        assert [(await raw.next())[0] for _ in range(2)] == ["NOTICE", "NOTICE"]


async def test_fragments_with_a_ping_between(house: House) -> None:
    event = json.dumps(["EVENT", plain(wrap()), house.purse.token()]).encode()
    async with Raw(house) as raw:
        await raw.next()
        raw.protocol.send_text(event[:50], fin=False)
        raw.protocol.send_continuation(event[50:400], fin=False)
        raw.protocol.send_ping(b"now")
        raw.protocol.send_continuation(event[400:], fin=True)
        await raw.write(raw.made() + raw.text("ping"))
        assert await raw.next() == ["pong", b"now"]
        answers = {(await raw.next())[0] for _ in range(2)}
        assert answers == {"OK", "NOTICE"}


async def test_a_binary_message(house: House) -> None:
    async with Raw(house) as raw:
        await raw.next()
        raw.protocol.send_binary(b'["CLOSE","x"]')
        await raw.write(raw.made() + raw.text("ping"))
        assert [(await raw.next())[0] for _ in range(2)] == ["NOTICE", "NOTICE"]


MASK = b"\1\2\3\4"


def _masked(first: int, payload: bytes) -> bytes:
    return bytes((first, 0x80 | len(payload))) + MASK + bytes(byte ^ MASK[n % 4] for n, byte in enumerate(payload))


ENDED: list[tuple[str, bytes, int]] = [
    ("not masked", b"\x81\x04ping", 1002),
    ("reserved bit", _masked(0xC1, b"ping"), 1002),
    ("reserved opcode", _masked(0x83, b"ping"), 1002),
    ("continuation of nothing", _masked(0x80, b"ping"), 1002),
    ("text within a fragmented text", _masked(0x01, b"pi") + _masked(0x81, b"ng"), 1002),
    ("fragmented ping", _masked(0x09, b""), 1002),
    ("not UTF-8", _masked(0x81, b"\xff\xfe"), 1007),
    ("half a character", _masked(0x81, b"\xe2\x82"), 1007),
    ("surrogate in UTF-8", _masked(0x81, b"\xed\xa0\x80"), 1007),
    ("not UTF-8 in fragments", _masked(0x01, b"\xe2") + _masked(0x80, b"\x28"), 1007),
    ("a length of 2^62", b"\x81\xff" + (2**62).to_bytes(8, "big") + MASK, 1009),
    ("a length of 2^63", b"\x81\xff" + (2**63).to_bytes(8, "big") + MASK, 1009),
    ("fragments of nothing without end", _masked(0x01, b"[") + _masked(0x00, b"") * 1_100, 1009),
    ("close", _masked(0x88, b"\x03\xe8"), 1000),
]


@pytest.mark.parametrize(("name", "data", "code"), ENDED, ids=[row[0] for row in ENDED])
@pytest.mark.parametrize("together", [False, True])
async def test_what_ends_a_connection(house: House, name: str, data: bytes, code: int, together: bool) -> None:
    """With the RFC's code, alone or behind a good frame; what follows is not answered, others are."""
    async with Raw(house) as raw:
        await raw.next()
        await raw.write(raw.text("ping") + data + raw.text("ping") if together else data)
        while (answer := await raw.next())[0] == "NOTICE":
            assert together
        assert answer == ["close", code]
        with pytest.raises((ConnectionResetError, AssertionError)):
            await raw.next()
    async with house.relay() as relay:
        await house.pay(relay, [wrap()])
