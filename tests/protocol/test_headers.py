"""Header records, byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol import headers
from pennypost.protocol.errors import InvalidEvent, OfficeMisbehaves
from pennypost.protocol.event import Event, sign_event
from pennypost.protocol.headers import HELD, RELEASED, Header, decode_headers, encode_headers, header_of

R, VT = bytes(range(32)), b"\xde\xad\xbe\xef"


def wrap(tags: list[list[str]], kind: int = 1059, content: str = "x") -> Event:
    return sign_event(bytes([7]) * 32, created_at=1_000_000, kind=kind, tags=tags, content=content, aux=bytes(32))


def test_bytes() -> None:
    header = Header(0x0102030405060708, R, VT, 2, 3, HELD | RELEASED)
    data = encode_headers(0x0102030405060700, [header])
    assert data.hex() == "0102030405060700" + "00000008" + R.hex() + "deadbeef" + "02" + "03" + "0003"
    assert len(data) == 8 + 44
    assert decode_headers(data) == (0x0102030405060700, [header])
    assert decode_headers(encode_headers(5, [])) == (5, [])


sequences = st.lists(st.integers(0, 2**32 - 1), unique=True, max_size=20).map(sorted)


@given(start=st.integers(0, 2**63 - 2**33), offsets=sequences, data=st.data())
@settings(max_examples=60, deadline=None)
def test_round_trip(start: int, offsets: list[int], data: st.DataObject) -> None:
    byte = st.integers(0, 255)
    records = [
        Header(
            start + offset,
            data.draw(st.binary(min_size=32, max_size=32)),
            data.draw(st.binary(min_size=4, max_size=4)),
            data.draw(byte),
            data.draw(byte),
            data.draw(st.integers(0, 65_535)),
        )
        for offset in offsets
    ]
    assert decode_headers(encode_headers(start, records)) == (start, records)


@pytest.mark.parametrize("seq", [9, 10 + 2**32])
def test_encode_refuses_numbers_that_do_not_fit(seq: int) -> None:
    with pytest.raises(ValueError):
        encode_headers(10, [Header(seq, R, VT, 0, 0)])


ONE = encode_headers(1, [Header(3, R, VT, 0, 0)])
RECORD = ONE[8:]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(ONE[:7], id="half a start"),
        pytest.param(ONE[:-1], id="a cut record"),
        pytest.param(ONE + b"\0", id="a byte left over"),
        pytest.param(ONE + RECORD, id="the same number twice"),
        pytest.param(ONE + b"\0\0\0\1" + RECORD[4:], id="a number that goes back"),
        pytest.param(b"\xff" * 8 + RECORD, id="numbers beyond 63 bits"),
        pytest.param(b"\xff" * 8, id="a start beyond 63 bits"),
        pytest.param(b"<html>not a feed</html>", id="something else"),
    ],
)
def test_decode_refuses(data: bytes) -> None:
    with pytest.raises(OfficeMisbehaves):
        decode_headers(data)


@given(data=st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_no_bytes_break_it(data: bytes) -> None:
    try:
        start, records = decode_headers(data)
    except OfficeMisbehaves:
        return
    assert encode_headers(start, records) == data


@pytest.mark.parametrize(
    ("size", "number"),
    [(0, 0), (2_820, 0), (4_096, 0), (4_097, 1), (16_384, 1), (16_385, 2), (65_536, 2), (65_537, 3), (10**9, 3)],
)
def test_size_class(size: int, number: int) -> None:
    assert headers.size_class(size) == number


@pytest.mark.parametrize(
    ("seconds", "number"),
    [
        (-1, 0),
        (0, 0),
        (3_600, 0),
        (3_601, 1),
        (86_400, 1),
        (604_800, 2),
        (604_801, 3),
        (2_592_000, 3),
        (2_592_001, 4),
        (2**53, 4),
    ],
)
def test_ttl_class(seconds: int, number: int) -> None:
    assert headers.ttl_class(seconds) == number


@pytest.mark.parametrize(
    ("tags", "ttl"),
    [
        ([["vt", "deadbeef"]], 3),
        ([["p", "x"], ["vt", "deadbeef", "more"], ["expiration", "1003600"]], 0),
        ([["vt", "deadbeef"], ["expiration", "1000000000"]], 4),
        ([["vt", "deadbeef"], ["expiration", "0"]], 0),
    ],
)
def test_header_of(tags: list[list[str]], ttl: int) -> None:
    event = wrap(tags)
    assert header_of(event, 9, HELD) == Header(9, bytes.fromhex(event.pubkey), VT, 0, ttl, HELD)


@pytest.mark.parametrize(
    "event",
    [
        wrap([]),
        wrap([["p", "x"]]),
        wrap([["vt"]]),
        wrap([["vt", ""]]),
        wrap([["vt", "DEADBEEF"]]),
        wrap([["vt", "deadbee"]]),
        wrap([["vt", "deadbeef0"]]),
        wrap([["vt", "deadbeeg"]]),
        wrap([["vt", "deadbeef\n"]]),
        wrap([["vt", "x"], ["vt", "deadbeef"]]),
        wrap([["vt", "deadbeef"]], kind=1),
        wrap([["vt", "deadbeef"]], kind=21_059),
    ],
    ids=lambda event: f"{event.kind} {event.tags}",
)
def test_not_in_the_feed(event: Event) -> None:
    assert header_of(event) is None


def test_an_unreadable_expiration() -> None:
    with pytest.raises(InvalidEvent):
        header_of(wrap([["vt", "deadbeef"], ["expiration", "never"]]))
