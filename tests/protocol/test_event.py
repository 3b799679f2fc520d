"""Events: what is read, what is refused, and the canonical bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import msgspec
import nostr_sdk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol import event as events
from pennypost.protocol import secp
from pennypost.protocol.errors import InvalidEvent, InvalidKey, InvalidSignature, PennypostError
from pennypost.protocol.event import Event

SECRET = bytes([7]) * 32
AUX = bytes(32)

GOOD: dict[str, Any] = {
    "id": "a" * 64,
    "pubkey": "b" * 64,
    "created_at": 1_700_000_000,
    "kind": 1,
    "tags": [["p", "c" * 64], ["d"]],
    "content": "hello",
    "sig": "d" * 128,
}


def signed(**fields: Any) -> Event:
    defaults: dict[str, Any] = {"created_at": 1_700_000_000, "kind": 1, "tags": [], "content": "hello"}
    return events.sign_event(SECRET, **(defaults | fields), aux=AUX)


def with_json(field: str, value: str) -> str:
    """GOOD as JSON text with the JSON text of one value replaced."""
    return "{" + ",".join(f'"{key}":{value if key == field else json.dumps(GOOD[key])}' for key in GOOD) + "}"


WHOLE = json.dumps(GOOD)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(WHOLE, id="plain"),
        pytest.param(json.dumps(GOOD, indent=2), id="white space"),
        pytest.param(json.dumps(dict(reversed(GOOD.items()))), id="other order"),
        pytest.param(with_json("created_at", "0"), id="created_at 0"),
        pytest.param(with_json("created_at", str(2**53 - 1)), id="created_at 2^53-1"),
        pytest.param(with_json("kind", "65535"), id="kind 65535"),
        pytest.param(with_json("tags", "[]"), id="no tags"),
        pytest.param(with_json("tags", '[["d"]]'), id="d alone"),
        pytest.param(with_json("tags", json.dumps([["t", ""]] * 2_000)), id="2,000 tags"),
        pytest.param(with_json("tags", json.dumps([["x" * 2**20]])), id="a 1 MiB tag, bounded by the frame"),
        pytest.param(with_json("content", '""'), id="empty content"),
        pytest.param(with_json("content", json.dumps('a:"b\\":{c:d},\\u0000')), id="colons and escapes in a string"),
        pytest.param(with_json("content", r'"\u0041\u2028\ud83d\ude00\u007f\/"'), id="escaped characters"),
        pytest.param(with_json("content", '"\u2028\u2029\ufeff\ufffe"'), id="line separators, BOM, non-characters"),
    ],
)
def test_reads(text: str) -> None:
    for given_value in (text, text.encode(), msgspec.Raw(text.encode()), json.loads(text)):
        event = events.parse_event(given_value)
        assert msgspec.to_builtins(event) == json.loads(text)
    assert events.parse_event(events.event_json(event)) == event


REFUSED = [
    *[(f"without {key}", json.dumps({k: v for k, v in GOOD.items() if k != key})) for key in GOOD],
    *[
        (f"{key}: {value[:20]}", with_json(key, value))
        for key in GOOD
        for value in ("null", "{}", "[1]", "true", "1.5", '"x"', "[null]", "-1")
        if not (key == "content" and value == '"x"')
    ],
    *[
        (f"{key}: {name}", with_json(key, value))
        for key in ("created_at", "kind")
        for name, value in (
            ("1.0", "1.0"),
            ("1e3", "1e3"),
            ("2^53", str(2**53)),
            ("2^53+1", str(2**53 + 1)),
            ("2^63", str(2**63)),
            ("2^64", str(2**64)),
            ("5,000 digits", "9" * 5_000),
            ("-5,000 digits", "-" + "9" * 5_000),
            ("1e999", "1e999"),
            ("a string", '"1"'),
            ("leading zero", "01"),
            ("NaN", "NaN"),
            ("Infinity", "Infinity"),
            ("hex", "0x10"),
        )
    ],
    ("kind 65536", with_json("kind", "65536")),
    *[
        (f"{key}: {name}", with_json(key, json.dumps(value)))
        for key, length in (("id", 64), ("pubkey", 64), ("sig", 128))
        for name, value in (
            ("upper case", "A" * length),
            ("odd length", "a" * (length - 1)),
            ("too short", "a" * (length - 2)),
            ("too long", "a" * (length + 2)),
            ("spaces", " " + "a" * (length - 1)),
            ("inner spaces", "aa " * (length // 3) + "a" * (length % 3)),
            ("not hex", "g" * length),
            ("other digits", "١" * length),
            ("empty", ""),
        )
    ],
    ("lengths that make up for each other", json.dumps(GOOD | {"id": "a" * 62, "pubkey": "b" * 66})),
    ("tags: [[]]", with_json("tags", "[[]]")),
    ("tags: [null]", with_json("tags", "[null]")),
    ("tags: [[null]]", with_json("tags", "[[null]]")),
    ("tags: [[1]]", with_json("tags", "[[1]]")),
    ('tags: [["p",1]]', with_json("tags", '[["p",1]]')),
    ("tags: [[[]]]", with_json("tags", "[[[]]]")),
    ('tags: ["p"]', with_json("tags", '["p"]')),
    ("2,001 tags", with_json("tags", json.dumps([["t", ""]] * 2_001))),
    ("100,000 brackets", with_json("tags", "[" * 100_000)),
    ("a lone high surrogate", with_json("content", r'"\ud800"')),
    ("a lone low surrogate", with_json("content", r'"\udc00"')),
    ("surrogates in wrong order", with_json("content", r'"\udc00\ud800"')),
    ("a lone surrogate in a tag", with_json("tags", r'[["t","\ud800"]]')),
    ("NUL in content", with_json("content", r'"a\u0000b"')),
    ("NUL in a tag", with_json("tags", r'[["t","\u0000"]]')),
    ("a raw control character", with_json("content", '"a\nb"')),
    ("an unknown key", WHOLE[:-1] + ',"extra":1}'),
    ("a doubled key", WHOLE[:-1] + ',"kind":2}'),
    ("a doubled key, same value", WHOLE[:-1] + ',"kind":1}'),
    ("a doubled key, escaped", WHOLE[:-1] + r',"\u006bind":2}'),
    ("a doubled key beside escaped colons", with_json("content", r'"\u003a\u003A"')[:-1] + ',"kind":2}'),
    ("a doubled key with colons inside", with_json("content", '":"')[:-1] + ',"content":"::"}'),
    ("a doubled key beside colons in strings", with_json("content", '"::::"')[:-1] + ',"kind":2}'),
    ("keys in upper case", WHOLE.replace('"kind"', '"Kind"')),
    ("empty", ""),
    ("an empty object", "{}"),
    ("null", "null"),
    ("a list", json.dumps(list(GOOD.values()))),
    ("a string", '"x"'),
    ("trailing bytes", WHOLE + "x"),
    ("cut", WHOLE[:-1]),
    ("BOM", "\ufeff" + WHOLE),
]


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in REFUSED])
def test_refuses(text: str) -> None:
    for given_value in (text, text.encode(), msgspec.Raw(text.encode())):
        with pytest.raises(InvalidEvent) as caught:
            events.parse_event(given_value)
        assert caught.value.code == "event"
        # Neither the decoder's words nor the input: our own words, or a field's name.
        assert not set("$`\"'[]{}") & set(caught.value.detail)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(None, id="null"),
        pytest.param(1, id="a number"),
        pytest.param([], id="a list"),
        pytest.param(GOOD | {"created_at": 2**70}, id="beyond 64 bits"),
        pytest.param(GOOD | {"created_at": True}, id="a boolean"),
        pytest.param(GOOD | {"content": "\ud800"}, id="a lone surrogate"),
        pytest.param(GOOD | {"content": "\0"}, id="NUL"),
        pytest.param(GOOD | {"extra": None}, id="an unknown key"),
        pytest.param(GOOD | {"content": object()}, id="no JSON value"),
        pytest.param(b"\xff", id="not UTF-8"),
        pytest.param(WHOLE.replace("hello", "h\xe9").encode("latin-1"), id="content not UTF-8"),
        pytest.param(WHOLE.encode().replace(b"hello", b"\xed\xa0\x80"), id="a surrogate in UTF-8"),
        pytest.param("\ud800", id="text not UTF-8"),
    ],
)
def test_refuses_decoded_values(value: object) -> None:
    with pytest.raises(InvalidEvent):
        events.parse_event(value)


def serialize_slowly(
    pubkey: str, created_at: int, kind: int, tags: list[list[str]], content: str, control: Callable[[str], str]
) -> bytes:
    """NIP-01's rules, character by character; `control` writes the control characters it does not list."""
    listed = {"\n": "\\n", '"': '\\"', "\\": "\\\\", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}

    def string(text: str) -> str:
        return '"' + "".join(listed.get(char) or (control(char) if char < " " else char) for char in text) + '"'

    rows = ",".join("[" + ",".join(map(string, tag)) + "]" for tag in tags)
    return f"[0,{string(pubkey)},{created_at},{kind},[{rows}],{string(content)}]".encode()


def as_json(char: str) -> str:
    return f"\\u{ord(char):04x}"


def verbatim(char: str) -> str:
    return char


# No lone surrogates: they have no UTF-8.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.text(
    st.sampled_from('\x01\x07\x08\t\n\x0b\x0c\r\x1b\x1f"\\/u0\x7f\x80\u2028\u2029\ufeff\uffff😀:'), max_size=20
)
tags_lists = st.lists(st.lists(texts, min_size=1, max_size=4), max_size=4)


@given(kind=st.integers(0, 65_535), created_at=st.integers(0, 2**53 - 1), tags=tags_lists, content=texts)
@settings(max_examples=300, deadline=None)
def test_canonical_bytes(kind: int, created_at: int, tags: list[list[str]], content: str) -> None:
    fields = ("ab" * 32, created_at, kind, tags, content)
    slow = serialize_slowly(*fields, control=as_json)
    assert events.serialize(*fields) == slow
    assert json.loads(slow) == [0, *fields]
    assert events.compute_id(*fields) == sha256(slow).hexdigest()
    to_the_letter = sha256(serialize_slowly(*fields, control=verbatim)).hexdigest()
    for identifier in (sha256(slow).hexdigest(), to_the_letter):
        events.check_id(Event(identifier, *fields, "00" * 64))


@pytest.mark.parametrize("char", ["\x7f", "\x80", "\u2028", "\u2029", "\ufeff", "\uffff", "/", "'", "<", "é", "😀"])
def test_verbatim_characters(char: str) -> None:
    assert events.serialize("", 0, 0, [[char]], char) == f'[0,"",0,0,[["{char}"]],"{char}"]'.encode()


@given(tags=tags_lists, content=texts)
@settings(max_examples=40, deadline=None)
def test_nostr_sdk_agrees_on_ids_and_signatures(tags: list[list[str]], content: str) -> None:
    content, tags = content.replace("\0", ""), [[item.replace("\0", "") for item in tag] for tag in tags]
    event = signed(tags=tags, content=content)
    theirs = nostr_sdk.Event.from_json(events.event_json(event).decode())
    assert theirs.verify()
    assert theirs.id().to_hex() == event.id


def test_nostr_sdk_event_is_read() -> None:
    keys = nostr_sdk.Keys.parse(SECRET.hex())
    theirs = nostr_sdk.EventBuilder(nostr_sdk.Kind(1), "bell \x07, delete \x7f, 😀\u2028").finalize(keys)
    event = events.parse_event(theirs.as_json())
    events.verify_event(event)
    assert event.pubkey == secp.xonly(SECRET).hex()


def test_sign_and_verify() -> None:
    event = signed(tags=[["t", "x"]], content="héllo")
    events.verify_event(event)
    assert event.pubkey == secp.xonly(SECRET).hex()
    assert events.canonical(event) == f'[0,"{event.pubkey}",1700000000,1,[["t","x"]],"héllo"]'.encode()
    assert sha256(events.canonical(event)).hexdigest() == event.id
    assert events.event_json(event).startswith(b'{"id":"')


@pytest.mark.parametrize(
    "changes",
    [
        {"content": "hello!"},
        {"created_at": 1_700_000_001},
        {"kind": 2},
        {"tags": [["t"]]},
        {"pubkey": secp.xonly(bytes([8]) * 32).hex()},
        {"id": "0" * 64},
        {"sig": "0" * 128},
        {"sig": "f" * 128},
        pytest.param({"sig": signed(content="other").sig}, id="a valid signature over another id"),
    ],
)
def test_changed_events_do_not_verify(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidSignature):
        events.verify_event(msgspec.structs.replace(signed(), **changes))


@pytest.mark.parametrize("pubkey", ["f" * 64, "0" * 64, "0" * 63 + "5"])
def test_keys_off_the_curve_do_not_verify(pubkey: str) -> None:
    forged = Event(events.compute_id(pubkey, 0, 1, [], ""), pubkey, 0, 1, [], "", "00" * 64)
    events.check_id(forged)
    with pytest.raises(InvalidSignature):
        events.verify_event(forged)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"content": "\ud800"}, InvalidEvent),
        ({"content": "\0"}, InvalidEvent),
        ({"kind": 65_536}, InvalidEvent),
        ({"kind": -1}, InvalidEvent),
        ({"created_at": 2**53}, InvalidEvent),
        ({"tags": [[]]}, InvalidEvent),
        ({"tags": [["t"]] * 2_001}, InvalidEvent),
    ],
)
def test_sign_refuses_what_nobody_reads(fields: dict[str, Any], error: type[PennypostError]) -> None:
    with pytest.raises(error):
        signed(**fields)


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32, bytes(31), b""])
def test_sign_refuses_bad_keys(secret: bytes) -> None:
    with pytest.raises(InvalidKey):
        events.sign_event(secret, created_at=0, kind=1, tags=[], content="", aux=AUX)


@pytest.mark.parametrize(
    ("tags", "until"),
    [
        ([], None),
        ([["e", "1"]], None),
        ([["expiration", "0"]], 0),
        ([["expiration", "1700000000"]], 1_700_000_000),
        ([["expiration", "1700000000", "x"]], 1_700_000_000),
        ([["x"], ["expiration", "5"], ["expiration", "6"]], 5),
        ([["expiration", "9" * 16]], 2**53 - 1),
    ],
)
def test_expiration(tags: list[list[str]], until: int | None) -> None:
    assert events.expiration(signed(tags=tags)) == until


@pytest.mark.parametrize("value", ["", "-1", "1.5", "1e9", "+5", " 5", "5 ", "1_000", "٥", "never", "9" * 17, "0x10"])
def test_expiration_that_is_no_time(value: str) -> None:
    with pytest.raises(InvalidEvent):
        events.expiration(signed(tags=[["expiration", value]]))


def test_expiration_without_value() -> None:
    with pytest.raises(InvalidEvent):
        events.expiration(signed(tags=[["expiration"]]))


@pytest.mark.parametrize(
    ("kind", "replaceable", "addressable", "ephemeral"),
    [
        (0, True, False, False),
        (1, False, False, False),
        (3, True, False, False),
        (1_059, False, False, False),
        (9_999, False, False, False),
        (10_000, True, False, False),
        (19_999, True, False, False),
        (20_000, False, False, True),
        (29_999, False, False, True),
        (30_000, False, True, False),
        (39_999, False, True, False),
        (40_000, False, False, False),
    ],
)
def test_kinds(kind: int, replaceable: bool, addressable: bool, ephemeral: bool) -> None:
    assert events.is_replaceable(kind) is replaceable
    assert events.is_addressable(kind) is addressable
    assert events.is_ephemeral(kind) is ephemeral


@pytest.mark.parametrize(
    ("kind", "tags", "suffix"),
    [
        (1, [["d", "x"]], None),
        (0, [["d", "x"]], ""),
        (10_002, [], ""),
        (30_000, [], ""),
        (30_000, [["d"]], ""),
        (30_000, [["d", "a:b"], ["d", "c"]], "a:b"),
    ],
)
def test_address(kind: int, tags: list[list[str]], suffix: str | None) -> None:
    event = signed(kind=kind, tags=tags)
    assert events.address(event) == (None if suffix is None else f"{kind}:{event.pubkey}:{suffix}")


def test_newer() -> None:
    older, newer = signed(kind=0, created_at=1), signed(kind=0, created_at=2)
    assert events.is_newer(newer, older) and not events.is_newer(older, newer)
    low, high = sorted((signed(kind=0, content="a"), signed(kind=0, content="b")), key=lambda event: event.id)
    assert events.is_newer(low, high) and not events.is_newer(high, low) and not events.is_newer(low, low)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD, "x"]), inner, max_size=8),
    max_leaves=12,
)


@given(value=json_values)
@settings(max_examples=150, deadline=None)
def test_no_value_breaks_it(value: object) -> None:
    with pytest.raises(InvalidEvent):
        events.parse_event(value)
    with pytest.raises(InvalidEvent):
        events.parse_event(json.dumps(value))


@given(data=st.binary(max_size=60), position=st.integers(0, 600), cut=st.integers(0, 20))
@settings(max_examples=200, deadline=None)
def test_no_bytes_break_it(data: bytes, position: int, cut: int) -> None:
    text = WHOLE.encode()
    position %= len(text)
    damaged = text[:position] + data + text[position + cut :]
    try:
        event = events.parse_event(damaged)
    except InvalidEvent:
        return
    assert events.parse_event(events.event_json(event)) == event
