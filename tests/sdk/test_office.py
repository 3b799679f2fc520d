"""An office that lies: in its feed, its letters, its frames. Bounded, dropped or refused; never believed."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from pennypost import AsyncClient
from pennypost.line import NONSENSE_LIMIT, refusal
from pennypost.protocol import secp
from pennypost.protocol.errors import OfficeMisbehaves, OfficeUnreachable, PennypostError, TooMany
from pennypost.protocol.event import Event, sign_event
from pennypost.protocol.headers import HELD, RELEASED, Header, encode_headers
from pennypost.transport import Response
from tests.sdk.meddler import Meddler
from tests.sdk.test_mail import read, texts

Make = Callable[..., AsyncClient]


def record(seq: int, flags: int = 0) -> Header:
    return Header(seq, secp.xonly(secrets.token_bytes(32)), secrets.token_bytes(4), 0, 3, flags)


FEEDS: dict[str, bytes] = {
    "nothing": b"",
    "half a start": b"\0" * 7,
    "half a record": encode_headers(1, [record(1)])[:-1],
    "numbers that do not rise": encode_headers(1, [record(1)]) + encode_headers(1, [record(1)])[8:],
    "numbers that go back": encode_headers(0, [record(0)]),
    "numbers without end": b"\xff" * 8 + encode_headers(1, [record(1)])[8:],
    "HTML": b"<html>" + b"x" * 90,
}


@pytest.mark.parametrize("row", FEEDS)
async def test_broken_feeds(client: Make, meddler: Meddler, row: str) -> None:
    meddler.replace("/v1/headers", FEEDS[row])
    with pytest.raises(OfficeMisbehaves):
        await read(client(transport=meddler))


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, OfficeMisbehaves), (301, OfficeMisbehaves), (500, OfficeUnreachable), (429, TooMany)],
)
async def test_other_statuses(client: Make, meddler: Meddler, status: int, error: type[PennypostError]) -> None:
    meddler.replace("/v1/headers", b"", status)
    with pytest.raises(error):
        await read(client(transport=meddler))


async def test_a_feed_without_end(client: Make, meddler: Meddler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pennypost.inbox.SCAN_LIMIT", 100)
    start = 0

    def more(answer: Response) -> Response:
        nonlocal start
        start += 10
        return Response(200, encode_headers(start, [record(start + place) for place in range(10)]))

    meddler.answers["/v1/headers"] = more
    with pytest.raises(OfficeMisbehaves):
        await read(client(transport=meddler))
    assert start <= 200


async def test_keys_off_the_curve_are_passed_over(client: Make, meddler: Meddler) -> None:
    records = [Header(n, bytes([0xFF]) * 32, b"\0\0\0\0", 255, 255, 0xFFFC) for n in range(1, 50)]
    pages = iter([Response(200, encode_headers(1, records)), Response(200, encode_headers(50, []))])
    meddler.answers["/v1/headers"] = lambda answer: next(pages)
    assert await read(client(transport=meddler)) == []


@pytest.mark.parametrize(("flags", "shown"), [(HELD, 0), (RELEASED, 1), (HELD | RELEASED, 1), (0, 1)])
async def test_held_letters_are_not_fetched(client: Make, meddler: Meddler, flags: int, shown: int) -> None:
    alice, bob = client(), client(transport=meddler)
    await alice.stamps.buy(1)
    await alice.send(bob.npub, "x")

    def flagged(answer: Response) -> Response:
        body = bytearray(answer.body)
        for start in range(8, len(body), 44):
            body[start + 42 : start + 44] = flags.to_bytes(2)
        return Response(200, bytes(body))

    meddler.answers["/v1/headers"] = flagged
    assert len(await read(bob)) == shown


def events_of(change: Callable[[dict[str, Any]], Any]) -> Callable[[str], list[str]]:
    """Change each event that the office serves."""

    def changed(text: str) -> list[str]:
        if not text.startswith('["EVENT"'):
            return [text]
        label, name, event = json.loads(text)
        return [json.dumps([label, name, found]) for found in _listed(change(event))]

    return changed


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def by_another(event: dict[str, Any]) -> dict[str, Any]:
    made: Event = sign_event(
        secrets.token_bytes(32),
        created_at=event["created_at"],
        kind=event["kind"],
        tags=event["tags"],
        content=event["content"],
        aux=bytes(32),
    )
    return msgspec.to_builtins(made)


LETTERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another signature": lambda e: e | {"sig": "00" * 64},
    "another id": lambda e: e | {"id": "11" * 32},
    "another author": by_another,
    "another kind": lambda e: e | {"kind": 1},
    "other content": lambda e: e | {"content": e["content"][:-4] + "AAAA"},
    "no object": lambda e: 7,
    "fields missing": lambda e: {"id": e["id"]},
    "half a surrogate pair": lambda e: e | {"content": "\ud800"},
    "nothing": lambda e: [],
}


@pytest.mark.parametrize("row", LETTERS)
async def test_letters_that_are_none(client: Make, meddler: Meddler, row: str) -> None:
    alice, bob = client(), client(transport=meddler)
    await alice.stamps.buy(1)
    await alice.send(bob.npub, "x")
    meddler.frames = events_of(LETTERS[row])
    assert await texts(bob, again=True) == []
    meddler.honest()
    assert await texts(bob, again=True) == ["x"]


@pytest.mark.parametrize("row", [row for row in LETTERS if row != "half a surrogate pair"])
async def test_pages_with_letters_that_are_none(client: Make, meddler: Meddler, row: str) -> None:
    alice, bob = client(), client(transport=meddler)
    await alice.stamps.buy(1)
    await alice.send(bob.npub, "x")

    def changed(answer: Response) -> Response:
        listed = [found for event in json.loads(answer.body) for found in _listed(LETTERS[row](event))]
        return Response(200, json.dumps(listed).encode())

    meddler.answers["/v1/pages/"] = changed
    assert await texts(bob, privacy="page") == []


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b"[" * 100_000, b'["\\ud800"]'])
async def test_broken_pages(client: Make, meddler: Meddler, body: bytes) -> None:
    alice, bob = client(), client(transport=meddler)
    await alice.stamps.buy(1)
    await alice.send(bob.npub, "x")
    meddler.replace("/v1/pages/", body)
    with pytest.raises(OfficeMisbehaves):
        await read(bob, privacy="all")


async def test_the_same_letter_over_and_over_is_one(client: Make, meddler: Meddler) -> None:
    alice, bob = client(), client(transport=meddler)
    await alice.stamps.buy(1)
    await alice.send(bob.npub, "x")
    meddler.frames = events_of(lambda event: [event] * 50)
    assert await texts(bob) == ["x"]


@pytest.mark.parametrize("privacy", ["fast", "page"])
async def test_letters_in_another_order_are_shown_in_that_of_the_feed(
    client: Make, meddler: Meddler, privacy: Any
) -> None:
    alice, bob = client(), client(transport=meddler)
    await alice.stamps.buy(4)
    for number in range(4):
        await alice.send(bob.npub, str(number))
    held: list[str] = []

    def backwards(text: str) -> list[str]:
        if text.startswith('["EVENT"'):
            held.insert(0, text)
            return []
        return [*held, text] if text.startswith('["EOSE"') else [text]

    meddler.frames = backwards
    meddler.change("/v1/pages/", lambda listed: listed[::-1])
    assert await texts(bob, privacy=privacy) == ["0", "1", "2", "3"]


NONSENSE = (
    "",
    "null",
    "[]",
    "[" * 10_000,
    '["EVENT"]',
    '["EVENT","unknown",{}]',
    '["EOSE","unknown"]',
    '["OK"]',
    '["OK","",true,""]',
    '["OK","' + "11" * 32 + '",true,""]',
    '["OK","' + "11" * 32 + '","yes",""]',
    '["NOTICE","\\u001b[2J"]',
    '["CLOSED","unknown","error: no"]',
    '["AUTH",7]',
    '["CHANGE","x",[]]',
    "\ud800",
)


async def test_nonsense_in_between_is_dropped(client: Make, meddler: Meddler) -> None:
    alice, bob = client(transport=meddler), client(transport=meddler)
    await alice.stamps.buy(1)
    meddler.frames = lambda text: [*NONSENSE, text, *NONSENSE]
    assert (await alice.send(bob.npub, "x")).accepted
    assert await texts(bob) == ["x"]


async def test_nonsense_without_end_closes_the_line(client: Make, meddler: Meddler) -> None:
    alice, bob = client(), client(transport=meddler)
    await alice.stamps.buy(1)
    await alice.send(bob.npub, "x")
    meddler.frames = lambda text: ['["NOTICE","x"]'] * (NONSENSE_LIMIT + 1)
    with pytest.raises(OfficeMisbehaves):
        await read(bob)
    meddler.honest()
    assert await texts(bob) == ["x"]


async def test_events_without_end_close_the_line(client: Make, meddler: Meddler) -> None:
    alice, bob = client(), client(transport=meddler)
    await alice.stamps.buy(1)
    await alice.send(bob.npub, "x")
    meddler.frames = events_of(lambda event: [event] * 5_000)
    with pytest.raises(OfficeMisbehaves):
        await read(bob)


async def test_a_closed_subscription_is_the_refusal_it_names(client: Make, meddler: Meddler) -> None:
    alice, bob = client(), client(transport=meddler)
    await alice.stamps.buy(1)
    await alice.send(bob.npub, "x")

    def closed(text: str) -> list[str]:
        if text.startswith('["EOSE"'):
            return [json.dumps(["CLOSED", json.loads(text)[1], "rate-limited: slow [subscriptions]"])]
        return []

    meddler.frames = closed
    with pytest.raises(PennypostError) as found:
        await read(bob)
    assert found.value.code == "subscriptions"


REFUSALS = (
    ("blocked: x [stamp-spent]", "stamp-spent"),
    ("blocked: x [stamp-spent] \n", "stamp-spent"),
    ("error: [no-such-code]", "server"),
    ("error:", "server"),
    ("rate-limited: x", "rate-limited"),
    ("restricted: x", "not-allowed"),
    ("x" * 100_000, "policy"),
    ("[" * 1000, "policy"),
)


@pytest.mark.parametrize(("message", "code"), REFUSALS)
def test_refusals(message: str, code: str) -> None:
    assert refusal(message).code == code


INFORMATION = (b"", b"[]", b"7", b"<html>", b"[" * 70_000, b'{"a": NaN}')


@pytest.mark.parametrize("body", INFORMATION)
async def test_broken_information(client: Make, meddler: Meddler, body: bytes) -> None:
    meddler.replace("/", body)
    with pytest.raises(OfficeMisbehaves):
        await client(transport=meddler).office.information(int(time.time()))


FEES: tuple[object, ...] = (
    None,
    7,
    [],
    {"stamp": 7},
    {"stamp": [7]},
    {"stamp": [{"amount": "1", "unit": "sat", "mints": ["https://m.example"]}]},
    {"stamp": [{"amount": 1.5, "unit": "sat", "mints": ["https://m.example"]}]},
    {"stamp": [{"amount": -1, "unit": "sat", "mints": ["https://m.example"]}]},
    {"stamp": [{"amount": 1, "unit": "usd", "mints": ["https://m.example"]}]},
    {"stamp": [{"amount": 1, "unit": "sat", "mints": []}]},
    {"publication": [{"amount": 1, "unit": "sat", "method": 7}]},
)


@pytest.mark.parametrize("fees", FEES)
async def test_fees_that_are_none_ask_for_nothing(client: Make, meddler: Meddler, fees: object) -> None:
    from tests.sdk.test_mint_client import edit

    meddler.change("/", edit(fees=fees))
    alice = client(transport=meddler)
    event = sign_event(secrets.token_bytes(32), created_at=1, kind=1059, tags=[], content="", aux=bytes(32))
    assert (await alice.office.price(event, int(time.time()))).sat == 0


async def test_closing_ends_what_waits(client: Make, meddler: Meddler) -> None:
    alice, bob = client(transport=meddler), client()
    await alice.stamps.buy(1)
    meddler.frames = lambda text: []
    sending = asyncio.ensure_future(alice.send(bob.npub, "x", patience=0))
    while "EVENT" not in meddler.asked:
        await asyncio.sleep(0.01)
    await alice.office.close()
    with pytest.raises(OfficeUnreachable):
        await asyncio.wait_for(sending, 20)
