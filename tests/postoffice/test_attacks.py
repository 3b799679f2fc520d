"""What strangers send: one row a case. Each ends in a clear answer; nothing is stored, nothing spent, everyone served.

After every row the same connection (or, where it was closed for cause, a new one) still stores a letter.
"""

from __future__ import annotations

import asyncio
import copy
import json
import secrets
from collections.abc import Callable
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect

from pennypost.protocol.event import Event, compute_id
from pennypost_mint.runtime.limits import MAX_FILTERS, MAX_FRAME, MAX_SUBSCRIPTIONS
from pennypost_postoffice.connection import Connection
from tests.postoffice.house import DAY, Author, House, wrap
from tests.support.relay import Relay, plain

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE = 60


@pytest.fixture(scope="module")
def house(shared_house: House) -> House:
    return shared_house


async def _next(socket: ClientConnection) -> list[Any]:
    return json.loads(await asyncio.wait_for(socket.recv(), PATIENCE))


async def _still_serves(house: House, socket: ClientConnection) -> None:
    event = wrap()
    await socket.send(json.dumps(["EVENT", plain(event), house.purse.token()]))
    while True:
        frame = await _next(socket)
        if frame[0] == "OK" and frame[1] == event.id:
            assert frame[2] is True, frame
            return


def _connect(house: House) -> Any:
    return connect(
        house.websocket_url, proxy=None, max_size=None, ping_interval=None, compression=None, open_timeout=PATIENCE
    )


NOTICED: list[tuple[str, str | bytes]] = [
    ("ping", "ping"),
    ("empty", ""),
    ("[", "["),
    ("[]", "[]"),
    ("{}", "{}"),
    ("string", '"x"'),
    ("null", "null"),
    ("[null]", "[null]"),
    ("EVENT alone", '["EVENT"]'),
    ("EVENT null", '["EVENT",null]'),
    ("EVENT without id", '["EVENT",{}]'),
    ("EVENT of five", '["EVENT",{},null,null,null]'),
    ("REQ alone", '["REQ"]'),
    ("REQ without name", '["REQ",1,{}]'),
    ("REQ with an empty name", '["REQ","",{}]'),
    ("REQ with a long name", '["REQ","' + "x" * 65 + '",{}]'),
    ("CLOSE alone", '["CLOSE"]'),
    ("AUTH alone", '["AUTH"]'),
    ("AUTH null", '["AUTH",null]'),
    ("lower case", '["event",{}]'),
    ("COUNT alone", '["COUNT"]'),
    ("COUNT without name", '["COUNT",{}]'),
    ("unknown", '["RELEASE","x"]'),
    ("100,000 brackets", "[" * 100_000),
    ("100,000 braces", '{"a":' * 30_000),
    ("byte order mark", "\ufeff[]"),
    ("NUL", "\0"),
    ("trailing bytes", '["CLOSE","x"]]'),
    ("two values", '["CLOSE","x"]["CLOSE","y"]'),
    ("binary", b'["CLOSE","x"]'),
    ("NaN", '["EVENT",NaN]'),
    ("Infinity", '["EVENT",Infinity]'),
    ("lone surrogate", '["EVENT","\\ud800"]'),
    ("id in upper case", '["EVENT",{"id":"' + "A" * 64 + '"}]'),
    ("id with spaces", '["EVENT",{"id":" ' + "a" * 63 + '"}]'),
    ("id too short", '["EVENT",{"id":"' + "a" * 63 + '"}]'),
    ("id a number", '["EVENT",{"id":7}]'),
    ("id with a newline", '["EVENT",{"id":"' + "a" * 63 + '\\n"}]'),
]


WITHOUT_AN_ID = {
    *("EVENT null", "EVENT without id", "AUTH null", "id in upper case", "id with spaces", "id too short"),
    *("id a number", "id with a newline"),
}
"""Frames that are read, of events that are not: there is no id an OK could name."""


@pytest.mark.parametrize(("name", "frame"), NOTICED, ids=[name for name, _ in NOTICED])
async def test_frames_answered_by_a_notice(house: House, name: str, frame: str | bytes) -> None:
    async with _connect(house) as socket:
        assert (await _next(socket))[0] == "AUTH"
        await socket.send(frame)
        kind, text = await _next(socket)
        assert kind == "NOTICE" and text.startswith("invalid:")
        assert text.endswith("[event]" if name in WITHOUT_AN_ID else "[frame]")
        await _still_serves(house, socket)


async def test_the_ping_of_keychat(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A NOTICE with these words within a second, or Keychat connects anew: it is there before the next frame is read,
    whatever of this connection waits for the database."""
    go = asyncio.Event()
    write, received = house.office.database.write, Connection.received
    at_once: list[list[str]] = []

    async def held(*args: Any) -> Any:
        await go.wait()
        return await write(*args)

    def observed(connection: Connection, text: str | None) -> None:
        received(connection, text)
        if text == "ping":
            at_once.append(list(connection._outgoing))

    monkeypatch.setattr(house.office.database, "write", held)
    monkeypatch.setattr(Connection, "received", observed)
    event = wrap()
    async with _connect(house) as socket:
        await _next(socket)
        await socket.send(json.dumps(["EVENT", plain(event), house.purse.token()]))
        await socket.send("ping")
        kind, text = await _next(socket)
        assert kind == "NOTICE" and ("unparseable message" in text or "command" in text)
        ((notice,),) = at_once
        assert json.loads(notice) == [kind, text]
        go.set()
        assert (await _next(socket))[:3] == ["OK", event.id, True]


async def test_a_frame_over_the_limit(house: House) -> None:
    """Closed by the protocol's own code; others are still served."""
    async with _connect(house) as socket:
        await _next(socket)
        await socket.send("x" * (MAX_FRAME + 1))
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await _next(socket)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009
    async with _connect(house) as socket:
        await _still_serves(house, socket)


async def test_fragments(house: House) -> None:
    async with _connect(house) as socket:
        await _next(socket)
        await socket.send(["[", '"CLO', 'SE"', ',"x"', "]"])
        await socket.send(["pi", "ng"])
        assert (await _next(socket))[0] == "NOTICE"
        await _still_serves(house, socket)


async def test_compression_is_not_offered(house: House) -> None:
    """Without it there are no compression bombs."""
    async with connect(house.websocket_url, proxy=None, compression="deflate", open_timeout=PATIENCE) as socket:
        assert "Sec-WebSocket-Extensions" not in socket.response.headers  # type: ignore[union-attr]


Change = Callable[[dict[str, Any]], object]


def _put(name: str, value: Any) -> Change:
    return lambda event: event.__setitem__(name, value)


def _tag(*tags: Any) -> Change:
    return lambda event: event.__setitem__("tags", list(tags))


def _without(name: str) -> Change:
    return lambda event: event.pop(name)


FIELDS = ("pubkey", "created_at", "kind", "tags", "content", "sig")

BROKEN: list[tuple[str, Change, str]] = [
    *((f"without {name}", _without(name), "event") for name in FIELDS),
    ("an extra key", _put("extra", 1), "event"),
    *(
        (f"{name} {value!r}"[:40], _put(name, value), "event")
        for name in ("created_at", "kind")
        for value in (None, True, "1", 1.5, -1, 2**53 + 1, 2**63, 2**64, [], {})
    ),
    ("kind 65536", _put("kind", 65_536), "event"),
    *(
        (f"{name} {value!r}"[:40], _put(name, value), "event")
        for name in ("pubkey", "sig", "content")
        for value in (None, True, 1, [], {})
    ),
    ("pubkey in upper case", lambda event: event.__setitem__("pubkey", event["pubkey"].upper()), "event"),
    ("pubkey too long", lambda event: event.__setitem__("pubkey", event["pubkey"] + "0"), "event"),
    ("pubkey with a space", lambda event: event.__setitem__("pubkey", " " + event["pubkey"][1:]), "event"),
    ("sig too short", lambda event: event.__setitem__("sig", event["sig"][:-1]), "event"),
    ("sig in upper case", lambda event: event.__setitem__("sig", "A" * 128), "event"),
    ("tags null", _put("tags", None), "event"),
    ("tags text", _put("tags", "x"), "event"),
    ("[[]]", _tag([]), "event"),
    ("[null]", _tag(None), "event"),
    ("[[null]]", _tag([None]), "event"),
    ("[[1]]", _tag([1]), "event"),
    ("[[[]]]", _tag([[]]), "event"),
    ("2,001 tags", _put("tags", [["t", "x"]] * 2_001), "event"),
    ("NUL in content", _put("content", "\0"), "event"),
    ("NUL in a tag", _tag(["t", "\0"]), "event"),
    ("another id", _put("id", "0" * 64), "signature"),
    ("another content", _put("content", "other"), "signature"),
    ("another time", _put("created_at", 1_700_000_000), "signature"),
    ("another key", _put("pubkey", Author().pubkey), "signature"),
    ("zero signature", _put("sig", "0" * 128), "signature"),
    ("signature of another", _put("sig", Author().sign(1).sig), "signature"),
]


@pytest.mark.parametrize(("name", "change", "code"), BROKEN, ids=[row[0] for row in BROKEN])
async def test_broken_events(house: House, name: str, change: Change, code: str) -> None:
    """A false OK with a prefix and a code; the stamp stays good."""
    event = copy.deepcopy(plain(wrap()))
    change(event)
    proof = house.purse.proof()
    async with _connect(house) as socket:
        await _next(socket)
        await socket.send(json.dumps(["EVENT", event, house.purse.token(proof)]))
        kind, identifier, accepted, message = await _next(socket)
        assert (kind, identifier, accepted) == ("OK", event["id"], False)
        assert message.startswith("invalid:") and message.endswith(f"[{code}]")
        await _still_serves(house, socket)
    assert await house.spent(proof) == [False]


RAW: list[tuple[str, Callable[[str], str], str]] = [
    ("a key twice", lambda text: text.replace('"kind"', '"kind": 1, "kind"'), "event"),
    ("5,000 digits", lambda text: text.replace('"created_at": ', '"created_at": ' + "9" * 5_000), "event"),
    ("exponent", lambda text: text.replace('"kind": 1059', '"kind": 1.059e3'), "event"),
    ("infinite exponent", lambda text: text.replace('"kind": 1059', '"kind": 1e999'), "event"),
    ("lone surrogate", lambda text: text.replace('"content": "', '"content": "\\ud800'), "event"),
    ("NaN", lambda text: text.replace('"kind": 1059', '"kind": NaN'), "event"),
]


@pytest.mark.parametrize(("name", "change", "code"), RAW, ids=[row[0] for row in RAW])
async def test_broken_json(house: House, name: str, change: Callable[[str], str], code: str) -> None:
    event = plain(wrap())
    async with _connect(house) as socket:
        await _next(socket)
        await socket.send(f'["EVENT",{change(json.dumps(event))},"{house.purse.token()}"]')
        answer = await _next(socket)
        if answer[0] == "NOTICE":
            assert answer[1].startswith("invalid:") and answer[1].endswith("[frame]")
        else:
            assert answer[:3] == ["OK", event["id"], False]
            assert answer[3].startswith("invalid:") and answer[3].endswith(f"[{code}]")
        await _still_serves(house, socket)


REFUSED: list[tuple[str, Callable[[], Any], str]] = [
    ("off-curve key", lambda: _off_curve(), "signature"),
    ("expiration 0", lambda: wrap_with(["expiration", "0"]), "expired"),
    ("expiration past", lambda: wrap_with(["expiration", "1"]), "expired"),
    ("expiration no number", lambda: wrap_with(["expiration", "soon"]), "event"),
    ("expiration negative", lambda: wrap_with(["expiration", "-5"]), "event"),
    ("expiration with underscores", lambda: wrap_with(["expiration", "9_000_000_000"]), "event"),
    ("expiration in other digits", lambda: wrap_with(["expiration", "٩٩٩٩٩٩٩٩٩٩"]), "event"),
    ("expiration alone", lambda: wrap_with(["expiration"]), "event"),
    ("expiration far away", lambda: wrap_with(["expiration", "9999999999999999"]), "ttl"),
    ("an hour ahead", lambda: Author().sign(1, age=-3_600), "future"),
    ("a month old", lambda: Author().sign(1, age=31 * DAY), "expired"),
    ("too large", lambda: Author().sign(1, content="x" * 140_000), "event"),
]


def wrap_with(*tags: list[str]) -> Any:
    """A wrap with these tags alone."""
    return Author().sign(1059, *tags)


def _off_curve() -> Any:
    event = Author().sign(1)
    pubkey = "f" * 64
    identifier = compute_id(pubkey, event.created_at, 1, [], event.content)
    return Event(identifier, pubkey, event.created_at, 1, [], event.content, event.sig)


@pytest.mark.parametrize(("name", "make", "code"), REFUSED, ids=[row[0] for row in REFUSED])
async def test_refused_events(house: House, name: str, make: Callable[[], Any], code: str) -> None:
    proof = house.purse.proof()
    event = make()
    async with house.relay() as relay:
        answer = await relay.post(event, house.purse.token(proof))
        assert (answer.accepted, answer.code) == (False, code)
        assert answer.message.startswith("blocked:" if code == "ttl" else "invalid:")
        assert await relay.fetch({"ids": [event.id]}) == []
    assert await house.spent(proof) == [False]


ODD: list[tuple[str, Callable[[], Any]]] = [
    ("tag d alone", lambda: Author().sign(30_000, ["d"])),
    ("tag d missing", lambda: Author().sign(30_000)),
    ("tags e, p, a without value", lambda: Author().sign(1, ["e"], ["p"], ["a"], ["-x"])),
    ("p that is no key", lambda: Author().sign(1, ["p", "nobody"], ["p", "A" * 64])),
    ("2,000 tags", lambda: Author().sign(1, *([["t", str(number)] for number in range(2_000)]))),
    ("a tag of 50 KiB", lambda: Author().sign(1, ["t", "x" * 50_000])),
    ("U+2028 and controls", lambda: Author().sign(1, content='\u2028\u2029\x7f\x01\x1f\b\f\t\\"/')),
    ("emoji", lambda: Author().sign(1, ["t", "🏷️"], content="📮")),
    ("kind 65535", lambda: Author().sign(65_535)),
    ("kind 5 that names nothing", lambda: Author().sign(5)),
    ("kind 5 with a bad a", lambda: Author().sign(5, ["a", "99999999:x:y"], ["a", ":"], ["e", "x"], ["e"])),
]


@pytest.mark.parametrize(("name", "make"), ODD, ids=[row[0] for row in ODD])
async def test_odd_but_valid_events(house: House, name: str, make: Callable[[], Any]) -> None:
    """Seen to crash relays; ours stores them byte for byte."""
    event = make()
    async with house.relay() as relay:
        await house.pay(relay, [event])
        assert await relay.fetch({"ids": [event.id]}) == [plain(event)]


async def test_a_deletion_of_two_thousand(house: House) -> None:
    author = Author()
    mine = [author.sign(1) for _ in range(3)]
    names = [["e", event.id] for event in mine] + [["e", secrets.token_hex(32)] for _ in range(1_700)]
    async with house.relay() as relay:
        await house.pay(relay, mine)
        assert (await relay.post(author.sign(5, *names))).accepted
        assert await relay.fetch({"authors": [author.pubkey], "kinds": [1]}) == []


AUTHS: list[tuple[str, int, Callable[[House, str], list[list[str]]], int]] = [
    ("another challenge", 22_242, lambda h, c: [["relay", h.websocket_url], ["challenge", c + "0"]], 0),
    ("no challenge", 22_242, lambda h, c: [["relay", h.websocket_url]], 0),
    ("challenge without value", 22_242, lambda h, c: [["relay", h.websocket_url], ["challenge"]], 0),
    ("another relay", 22_242, lambda h, c: [["relay", "wss://elsewhere.example/"], ["challenge", c]], 0),
    ("no relay", 22_242, lambda h, c: [["challenge", c]], 0),
    ("relay that is none", 22_242, lambda h, c: [["relay", "[::"], ["challenge", c]], 0),
    ("old", 22_242, lambda h, c: [["relay", h.websocket_url], ["challenge", c]], 3_600),
    ("ahead", 22_242, lambda h, c: [["relay", h.websocket_url], ["challenge", c]], -3_600),
    ("another kind", 1, lambda h, c: [["relay", h.websocket_url], ["challenge", c]], 0),
]


@pytest.mark.parametrize(("name", "kind", "tags", "age"), AUTHS, ids=[row[0] for row in AUTHS])
async def test_bad_auth(
    house: House, name: str, kind: int, tags: Callable[[House, str], list[list[str]]], age: int
) -> None:
    async with _connect(house) as socket:
        _, challenge = await _next(socket)
        event = Author().sign(kind, *tags(house, challenge), age=age)
        await socket.send(json.dumps(["AUTH", plain(event)]))
        answer = await _next(socket)
        assert answer[:3] == ["OK", event.id, False]
        assert answer[3].startswith("invalid:") and answer[3].endswith("[auth-invalid]")


async def test_a_forged_auth(house: House) -> None:
    async with _connect(house) as socket:
        _, challenge = await _next(socket)
        event = plain(Author().sign(22_242, ["relay", house.websocket_url], ["challenge", challenge]))
        event["sig"] = "0" * 128
        await socket.send(json.dumps(["AUTH", event]))
        _, identifier, accepted, message = await _next(socket)
        assert (identifier, accepted) == (event["id"], False) and message.endswith("[signature]")


KEY = "a" * 64
CLOSED: list[tuple[str, list[Any]]] = [
    ("no filter", []),
    (f"{MAX_FILTERS + 1} filters", [{}] * (MAX_FILTERS + 1)),
    ("1,000 filters", [{}] * 1_000),
    ("filter null", [None]),
    ("filter a list", [[]]),
    ("filter a number", [1]),
    ("unknown key", [{"search": "x"}]),
    ("unknown tag key", [{"#pp": ["x"]}]),
    ("ids no list", [{"ids": KEY}]),
    ("ids of 63", [{"ids": ["a" * 63]}]),
    ("ids of 65", [{"ids": ["a" * 65]}]),
    ("ids in upper case", [{"ids": ["A" * 64]}]),
    ("ids no strings", [{"ids": [1]}]),
    ("ids null", [{"ids": None}]),
    ("authors prefix", [{"authors": ["a"]}]),
    ("#p no key", [{"#p": ["x"]}]),
    ("one bad author of 3,801", [{"authors": [*(f"{number:064x}" for number in range(3_800)), "x"]}]),
    ("kinds text", [{"kinds": ["1"]}]),
    ("kinds true", [{"kinds": [True]}]),
    ("kinds -1", [{"kinds": [-1]}]),
    ("kinds 65536", [{"kinds": [65_536]}]),
    ("limit -1", [{"limit": -1}]),
    ("limit text", [{"limit": "1"}]),
    ("limit 1.5", [{"limit": 1.5}]),
    ("limit true", [{"limit": True}]),
    ("since text", [{"since": "1"}]),
    ("until null", [{"until": None}]),
    ("#t no strings", [{"#t": [1]}]),
    ("#t lone surrogate", [{"#t": ["\ud800"]}]),
    ("#t NUL", [{"#t": ["\0"]}]),
]


@pytest.mark.parametrize(("name", "filters"), CLOSED, ids=[name for name, _ in CLOSED])
async def test_bad_filters(house: House, name: str, filters: list[Any]) -> None:
    async with _connect(house) as socket:
        await _next(socket)
        await socket.send(json.dumps(["REQ", "x", *filters]))
        answer = await _next(socket)
        assert answer[0] in ("CLOSED", "NOTICE")
        if answer[0] == "CLOSED":
            assert answer[1] == "x" and answer[2].startswith("invalid:") and answer[2].endswith("[filter]")
        await _still_serves(house, socket)


HARMLESS: list[tuple[str, list[Any]]] = [
    ("the scraper", [{}]),
    ("ids empty", [{"ids": []}]),
    ("authors empty", [{"authors": []}]),
    ("kinds empty", [{"kinds": []}]),
    ("#p empty", [{"#p": []}]),
    ("limit 0", [{"limit": 0}]),
    ("limit 1e18", [{"limit": 10**18}]),
    ("since > until", [{"since": 10, "until": 5}]),
    ("since 2^64", [{"since": 2**64}]),
    ("until 2^70", [{"until": 2**70}]),
    ("1,500 keys in one #p", [{"#p": [f"{number:064x}" for number in range(1_500)]}]),
    ("3,000 authors", [{"authors": [f"{number:064x}" for number in range(3_000)]}]),
    ("ten letters", [{f"#{letter}": ["x"] for letter in "abcdfghijk"}]),
    (f"{MAX_FILTERS} filters", [{"kinds": [number]} for number in range(MAX_FILTERS)]),
]


@pytest.mark.parametrize(("name", "filters"), HARMLESS, ids=[name for name, _ in HARMLESS])
async def test_harmless_filters(house: House, name: str, filters: list[Any]) -> None:
    async with house.relay() as relay:
        await relay.fetch(*filters)
        await house.pay(relay, [wrap()])


FLOATS = ["1e18", "1e2", "5.0", "1e999", "-1e0", "NaN", "1" * 5_000]


@pytest.mark.parametrize("number", FLOATS, ids=[number[:9] for number in FLOATS])
@pytest.mark.parametrize("field", ["limit", "since"])
async def test_numbers_of_filters_are_whole(house: House, field: str, number: str) -> None:
    """As they are written, not as they are worth; a number too large for any clock is either refused or bounded."""
    async with _connect(house) as socket:
        await _next(socket)
        await socket.send(f'["REQ","x",{{"ids":["{KEY}"],"{field}":{number}}}]')
        answer = await _next(socket)
        if number.isdigit():
            assert answer[0] in ("EOSE", "CLOSED", "NOTICE")
        else:
            assert answer[0] in ("CLOSED", "NOTICE") and answer[-1].endswith(("[filter]", "[frame]"))
        await _still_serves(house, socket)


async def test_subscription_names_are_escaped(house: House) -> None:
    """Two relays let a client inject JSON here."""
    for name in ('"', '\\","x', "\n", '"],["EVENT"', "é", "🏷"):
        author = Author()
        async with _connect(house) as socket, house.relay() as relay:
            await _next(socket)
            await socket.send(json.dumps(["REQ", name, {"authors": [author.pubkey]}]))
            assert await _next(socket) == ["EOSE", name]
            event = author.sign(1)
            await house.pay(relay, [event])
            assert await _next(socket) == ["EVENT", name, plain(event)]
            await socket.send(json.dumps(["REQ", name, {"ids": 1}]))
            assert (await _next(socket))[:2] == ["CLOSED", name]


async def test_two_thousand_subscriptions(house: House) -> None:
    """MAX_SUBSCRIPTIONS are served, the rest is closed with its reason; the first still works."""
    async with _connect(house) as socket:
        await _next(socket)
        for number in range(2_000):
            await socket.send(json.dumps(["REQ", str(number), {"ids": [KEY]}]))
        answers = [await _next(socket) for _ in range(2_000)]
        ended = {answer[1] for answer in answers if answer[0] == "EOSE"}
        refused = [answer for answer in answers if answer[0] == "CLOSED"]
        assert len(ended) == MAX_SUBSCRIPTIONS and len(refused) == 2_000 - MAX_SUBSCRIPTIONS
        assert all(answer[2].endswith("[subscriptions]") for answer in refused)
        await socket.send('["CLOSE","0"]')
        await socket.send(json.dumps(["REQ", "new", {"ids": [KEY]}]))
        assert await _next(socket) == ["EOSE", "new"]
    async with asyncio.timeout(PATIENCE):
        while house.office.live._index:
            await asyncio.sleep(0.005)


async def test_close_of_the_unknown(house: House) -> None:
    async with _connect(house) as socket:
        await _next(socket)
        await socket.send('["CLOSE","nothing"]')
        await _still_serves(house, socket)


def _proofs(house: House, count: int) -> list[Any]:
    return [house.purse.proof() for _ in range(count)]


STAMPS: list[tuple[str, Callable[[House], Any], str]] = [
    ("null", lambda h: None, "stamp-required"),
    ("number", lambda h: 1, "stamp-malformed"),
    ("true", lambda h: True, "stamp-malformed"),
    ("list", lambda h: [], "stamp-malformed"),
    ("object", lambda h: {}, "stamp-malformed"),
    ("empty", lambda h: "", "stamp-malformed"),
    ("200 KiB", lambda h: "cashuB" + "A" * 200_000, "stamp-malformed"),
    ("bad base64", lambda h: "cashuB!!!!", "stamp-malformed"),
    ("bad CBOR", lambda h: "cashuB" + "_" * 40, "stamp-malformed"),
    ("cut short", lambda h: h.purse.token()[:-9], "stamp-malformed"),
    ("version C", lambda h: "cashuC" + h.purse.token()[6:], "stamp-malformed"),
    ("the same proof twice", lambda h: h.purse.token(*[h.purse.proof()] * 2), "stamp-malformed"),
    ("101 proofs", lambda h: h.purse.token(*_proofs(h, 101)), "stamp-malformed"),
    ("another mint", lambda h: h.purse.token(url="https://mint.example"), "stamp-mint"),
    ("user name in the address", lambda h: h.purse.token(url=h.url.replace("//", "//user@")), "stamp-mint"),
    ("another port", lambda h: h.purse.token(url="http://127.0.0.1:1"), "stamp-mint"),
    ("metadata address", lambda h: h.purse.token(url="http://169.254.169.254/"), "stamp-mint"),
    ("wrong unit", lambda h: h.purse.token(unit="usd"), "stamp-unit"),
    ("forged", lambda h: h.purse.token(h.purse.proof(2, key_of=1)), "stamp-forged"),
    ("signed for 1, says 1024", lambda h: h.purse.token(h.purse.proof(1_024, key_of=1)), "stamp-forged"),
    ("one forged of two", lambda h: h.purse.token(h.purse.proof(), h.purse.proof(2, key_of=1)), "stamp-forged"),
    ("an amount without a key", lambda h: h.purse.token(h.purse.proof(1 << 40, key_of=1)), "stamp-forged"),
    ("locked to another", lambda h: h.purse.token(h.purse.proof(secret=_lock("02" + "11" * 32))), "stamp-locked"),
    ("locked by hash", lambda h: h.purse.token(h.purse.proof(secret=_lock("11" * 32, "HTLC"))), "stamp-locked"),
    ("lock of an unknown kind", lambda h: h.purse.token(h.purse.proof(secret=_lock("x", "OTHER"))), "stamp-locked"),
]


def _lock(data: str, kind: str = "P2PK") -> str:
    return json.dumps([kind, {"nonce": secrets.token_hex(16), "data": data, "tags": []}])


@pytest.mark.parametrize(("name", "make", "code"), STAMPS, ids=[row[0] for row in STAMPS])
async def test_bad_stamps(house: House, name: str, make: Callable[[House], Any], code: str) -> None:
    """`blocked: invalid stamp: <which>`; the event is not stored, and is taken with a good one afterwards."""
    event = wrap()
    async with house.relay() as relay:
        answer = await relay.post(event, make(house), {})
        assert (answer.accepted, answer.code) == (False, code)
        sentence = "blocked: stamp required: " if code == "stamp-required" else "blocked: invalid stamp: "
        assert answer.message.startswith(sentence)
        assert await relay.fetch({"ids": [event.id]}) == []
        assert (await relay.post(event, house.purse.token())).accepted


GOOD_STAMPS: list[tuple[str, Callable[[House], str]]] = [
    ("cashuA", lambda h: h.purse.token(version="A")),
    ("slash at the end", lambda h: h.purse.token(url=h.url + "/")),
    ("host in upper case", lambda h: h.purse.token(url=h.url.replace("http", "HTTP"))),
    ("several proofs", lambda h: h.purse.token(*_proofs(h, 100))),
    ("prefix cashu:", lambda h: "cashu:" + h.purse.token()),
    ("padding", lambda h: h.purse.token() + "="),
    ("a secret that looks like JSON", lambda h: h.purse.token(h.purse.proof(secret="[1]"))),
]


@pytest.mark.parametrize(("name", "make"), GOOD_STAMPS, ids=[row[0] for row in GOOD_STAMPS])
async def test_good_stamps(house: House, name: str, make: Callable[[House], str]) -> None:
    async with house.relay() as relay:
        answer = await relay.post(wrap(), make(house))
        assert answer.accepted, answer


async def test_repeats_and_unstamped_events_cost_no_crypto(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Floods of what was stored, spent, or has no stamp are answered by a look-up."""
    event, other, proof = wrap(), wrap(), house.purse.proof()
    async with house.relay() as relay:
        assert (await relay.post(event, house.purse.token(proof))).accepted
        asked: list[str] = []
        run = house.office.workers.run

        async def counted(job: str, items: list[Any]) -> list[Any]:
            asked.append(job)
            return await run(job, items)

        monkeypatch.setattr(house.office.workers, "run", counted)
        assert (await relay.post(event, house.purse.token(proof))).duplicate
        assert (await relay.post(event, house.purse.token())).duplicate
        assert (await relay.post(wrap())).code == "stamp-required"
        assert (await relay.post(wrap(), "cashuBx")).code == "stamp-malformed"
        assert (await relay.post(other, house.purse.token(proof))).code == "stamp-spent"
        assert asked == []
        assert (await relay.post(wrap(), house.purse.token())).accepted
        assert asked == ["office.check_posts"]


async def test_a_flood_of_pings_slows_only_its_sender(house: House) -> None:
    """Every ping is answered, nobody else waits for it."""
    async with _connect(house) as flood, house.relay() as relay:
        await _next(flood)
        for _ in range(2_000):
            await flood.send("ping")
        async with asyncio.timeout(PATIENCE):
            await house.pay(relay, [wrap() for _ in range(3)])
        assert [(await _next(flood))[0] for _ in range(2_000)] == ["NOTICE"] * 2_000


async def test_connecting_and_leaving_over_and_over(house: House) -> None:
    for _ in range(50):
        async with _connect(house) as socket:
            await socket.send('["REQ","x",{}]')
    async with Relay(house.websocket_url) as relay:
        await house.pay(relay, [wrap()])
