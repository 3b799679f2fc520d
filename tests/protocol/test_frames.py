"""Frames: both directions, and everything that must not break a parser."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol import frames
from pennypost.protocol.errors import InvalidEvent, InvalidFrame, PennypostError
from pennypost.protocol.event import event_json, parse_event, sign_event
from pennypost.protocol.filter import Filter, parse_filter
from pennypost.protocol.frames import (
    AuthFrame,
    AuthMessage,
    ChangeMessage,
    ClosedMessage,
    CloseFrame,
    CountFrame,
    CountMessage,
    EoseMessage,
    EventFrame,
    EventMessage,
    NegCloseFrame,
    NegErrorMessage,
    NegMessage,
    NegMessageFrame,
    NegOpenFrame,
    NoticeMessage,
    OkMessage,
    PostmarkMessage,
    ReleaseFrame,
    ReqFrame,
    parse_client_frame,
    parse_relay_frame,
)

EVENT = sign_event(bytes([7]) * 32, created_at=1, kind=1, tags=[["t", "x"]], content='"hé\u2028', aux=bytes(32))
TEXT = event_json(EVENT).decode()
OPTIONS = {"change": [{"amount": 1, "id": "00", "B_": "02"}]}

UNREADABLE = [
    ("ping", "ping"),
    ("empty", ""),
    ("[", "["),
    ("[]", "[]"),
    ("{}", "{}"),
    ("a string", '"x"'),
    ("[null]", "[null]"),
    ("[1]", "[1]"),
    ("[[]]", "[[]]"),
    ("EVENT alone", '["EVENT"]'),
    ("REQ alone", '["REQ"]'),
    ("CLOSE alone", '["CLOSE"]'),
    ("AUTH alone", '["AUTH"]'),
    ("an unknown label", '["HELLO","x"]'),
    ("lower case", '["event",{}]'),
    ("five elements", f'["EVENT",{TEXT},"t",{{}},1]'),
    ("CLOSE with more", '["CLOSE","a","b"]'),
    ("AUTH with more", '["AUTH",{},1]'),
    ("an object for a label", '[{"EVENT":1},{}]'),
    ("100,000 brackets", "[" * 100_000),
    ("100,000 brackets, closed", "[" * 100_000 + "]" * 100_000),
    ("100,000 brackets after a label", '["REQ","a",' + "[" * 100_000),
    ("100,000 brackets as token", f'["EVENT",{TEXT},{"[" * 100_000}]'),
    ("100,000 objects", '{"a":' * 100_000),
    ("BOM", "\ufeff" + f'["EVENT",{TEXT}]'),
    ("NUL", "\0"),
    ("NUL after", f'["EVENT",{TEXT}]\0'),
    ("trailing bytes", f'["EVENT",{TEXT}]x'),
    ("RELEASE without an id", f'["RELEASE","{"a" * 64}","{"b" * 64}"]'),
    ("RELEASE of what is no hold", '["RELEASE","a","b","c"]'),
    ("RELEASE in upper case", f'["RELEASE","{"A" * 64}","{"b" * 64}","{"c" * 64}"]'),
    ("RELEASE of a number", '["RELEASE",1,"b","c"]'),
    ("two frames", '["CLOSE","a"]["CLOSE","a"]'),
    ("a comma too many", '["CLOSE","a",]'),
    ("a raw line break in a string", '["CLOSE","a\nb"]'),
    ("NaN", '["CLOSE",NaN]'),
    ("a lone surrogate", r'["CLOSE","\ud800"]'),
    ("text not UTF-8", '["CLOSE","\ud800"]'),
    ("subscription empty", '["REQ","",{}]'),
    ("subscription of 65", f'["REQ","{"x" * 65}",{{}}]'),
    ("subscription a number", '["REQ",1,{}]'),
    ("subscription null", '["CLOSE",null]'),
    ("subscription a list", '["CLOSE",["a"]]'),
    ("a number of 5,000 digits", '["REQ","a",' + "9" * 5_000 + "]"),
    ("1e999", '["REQ","a",1e999]'),
    ("only white space", " \n\t "),
]


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in UNREADABLE])
def test_unreadable_frames(text: str) -> None:
    for given_text in (text, text.encode(errors="surrogatepass")):
        with pytest.raises(InvalidFrame) as caught:
            parse_client_frame(given_text)
        # What Keychat waits for after its bare "ping".
        assert "unparseable message" in caught.value.nip01()
        assert not caught.value.nip01().startswith("nwc")
        with pytest.raises((InvalidFrame, InvalidEvent)):
            parse_relay_frame(given_text)


@pytest.mark.parametrize("data", [b"\xff", b'["CLOSE","\xff"]', b'["CLOSE","\xed\xa0\x80"]', b"\x00" * 100])
def test_unreadable_bytes(data: bytes) -> None:
    with pytest.raises(InvalidFrame):
        parse_client_frame(data)


def test_event_frame() -> None:
    found = parse_client_frame(frames.event_frame(EVENT))
    assert isinstance(found, EventFrame)
    assert (found.token, found.options, found.id) == (None, None, EVENT.id)
    assert parse_event(found.event) == EVENT


@pytest.mark.parametrize("token", [None, True, 1, -1.5, "", "cashuBx", "é" * 1_000, [1, [2]], {"a": {}}, "x" * 2**20])
@pytest.mark.parametrize("options", [None, True, 7, "x", [], {}, OPTIONS])
def test_token_and_options_of_any_type(token: Any, options: Any) -> None:
    found = parse_client_frame(json.dumps(["EVENT", json.loads(TEXT), token, options]))
    assert isinstance(found, EventFrame)
    assert (found.token, found.options) == (token, options)
    assert parse_event(found.event) == EVENT


@pytest.mark.parametrize(
    ("token", "options", "elements"),
    [(None, None, 2), ("cashuBx", None, 3), ("cashuBx", OPTIONS, 4), (None, OPTIONS, 4), ("cashuBx", {}, 3)],
)
def test_event_frame_with_stamp(token: str | None, options: dict[str, Any] | None, elements: int) -> None:
    text = frames.event_frame(EVENT, token, options)
    assert len(json.loads(text)) == elements
    found = parse_client_frame(text)
    assert isinstance(found, EventFrame)
    assert (found.token, found.options) == (token, options or None)


@pytest.mark.parametrize(
    ("event", "identifier"),
    [
        ("null", None),
        ("1", None),
        ("[]", None),
        ("{}", None),
        ('{"id":null}', None),
        ('{"id":1}', None),
        ('{"id":["' + "a" * 64 + '"]}', None),
        ('{"id":"' + "A" * 64 + '"}', None),
        ('{"id":"' + "a" * 63 + '"}', None),
        ('{"id":"' + "a" * 65 + '"}', None),
        ('{"id":"' + "a" * 63 + '\\n"}', None),
        ('{"id":"' + "a" * 64 + '\\n"}', None),
        ('{"id":"' + "١" * 64 + '"}', None),
        ('{"id":"' + "a" * 64 + '"}', "a" * 64),
        ('{"id":"' + "a" * 64 + '","kind":true,"x":[[]]}', "a" * 64),
        (TEXT, EVENT.id),
    ],
)
def test_the_id_to_answer_to(event: str, identifier: str | None) -> None:
    for label in ("EVENT", "AUTH"):
        found = parse_client_frame(f'["{label}",{event}]')
        assert isinstance(found, (EventFrame, AuthFrame))
        assert found.id == identifier
        if event != TEXT:
            with pytest.raises(InvalidEvent):
                parse_event(found.event)


def test_req_close_auth() -> None:
    wanted = (Filter(kinds=(1,)), Filter(tags={"p": ("a" * 64,)}, limit=3))
    found = parse_client_frame(frames.req_frame("s", *wanted))
    assert isinstance(found, ReqFrame)
    assert found.subscription == "s"
    assert tuple(map(parse_filter, found.filters)) == wanted
    assert parse_client_frame(frames.close_frame("s")) == CloseFrame("s")
    auth = parse_client_frame(frames.auth_frame(EVENT))
    assert isinstance(auth, AuthFrame)
    assert parse_event(auth.event) == EVENT
    hold, preimage, identifier = b"\1" * 32, b"\2" * 32, b"\3" * 32
    release = parse_client_frame(frames.release_frame(hold, preimage, identifier))
    assert release == ReleaseFrame(hold.hex(), preimage.hex(), identifier.hex())
    assert parse_client_frame(f'["RELEASE","{hold.hex()}",1,null]') == ReleaseFrame(hold.hex(), 1, None)


def test_count_and_negentropy() -> None:
    found = parse_client_frame(frames.count_frame("c", Filter(kinds=(1,))))
    assert found == CountFrame("c", ({"kinds": [1]},))
    assert parse_client_frame('["COUNT","c"]') == CountFrame("c", ())
    assert parse_client_frame('["NEG-OPEN","n",{"kinds":[1]},"6100"]') == NegOpenFrame("n", {"kinds": [1]}, "6100")
    assert parse_client_frame('["NEG-OPEN","n",null,1]') == NegOpenFrame("n", None, 1)
    assert parse_client_frame('["NEG-MSG","n","61"]') == NegMessageFrame("n", "61")
    assert parse_client_frame('["NEG-CLOSE","n"]') == NegCloseFrame("n")


def test_req_keeps_what_came() -> None:
    assert parse_client_frame('["REQ","s"]') == ReqFrame("s", ())
    assert parse_client_frame('["REQ","s",null,1,"x",{"ids":null}]') == ReqFrame("s", (None, 1, "x", {"ids": None}))
    many = parse_client_frame(json.dumps(["REQ", "s", *[{}] * 1_000]))
    assert isinstance(many, ReqFrame) and len(many.filters) == 1_000


NASTY = '"],["EVENT","x",{}]\\\n\u2028\x00😀'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (frames.event_message(NASTY, TEXT.encode()), EventMessage(NASTY, EVENT)),
        (frames.ok_message(EVENT.id, True, "accepted: until 1"), OkMessage(EVENT.id, True, "accepted: until 1")),
        (frames.ok_message(EVENT.id, False, NASTY), OkMessage(EVENT.id, False, NASTY)),
        (frames.ok_message(EVENT.id, True, ""), OkMessage(EVENT.id, True, "")),
        (frames.eose_message(NASTY), EoseMessage(NASTY)),
        (frames.closed_message(NASTY, NASTY), ClosedMessage(NASTY, NASTY)),
        (frames.count_message(NASTY, 7), CountMessage(NASTY, 7)),
        (frames.neg_message(NASTY, b"\x61\x00"), NegMessage(NASTY, "6100")),
        (frames.neg_error_message(NASTY, NASTY), NegErrorMessage(NASTY, NASTY)),
        ('["NEG-ERR","s","blocked: too big",500]', NegErrorMessage("s", "blocked: too big")),
        (frames.notice_message(NASTY), NoticeMessage(NASTY)),
        (frames.auth_message("challenge"), AuthMessage("challenge")),
        (frames.change_message(EVENT.id, [{"amount": 1}]), ChangeMessage(EVENT.id, ({"amount": 1},))),
        (frames.postmark_message(EVENT.id, {"sat": 1}), PostmarkMessage(EVENT.id, {"sat": 1})),
        (f'["OK","{EVENT.id}",true]', OkMessage(EVENT.id, True, "")),
        ('["CLOSED","s"]', ClosedMessage("s", "")),
    ],
)
def test_messages_of_relays(text: str, message: frames.RelayMessage) -> None:
    assert parse_relay_frame(text) == message
    assert parse_relay_frame(text.encode()) == message
    # Whatever a subscription id holds, the frame is one JSON array.
    assert isinstance(json.loads(text), list)


def test_ok_has_four_elements_and_a_real_id() -> None:
    assert len(json.loads(frames.ok_message(EVENT.id, True, ""))) == 4
    for identifier in ("", "a" * 63, "A" * 64, "g" * 64, "a" * 64 + "\n", NASTY):
        with pytest.raises(InvalidEvent):
            frames.ok_message(identifier, False, "x")


@pytest.mark.parametrize(
    "text",
    [
        '["EVENT","s"]',
        f'["EVENT",1,{TEXT}]',
        '["EVENT","s",{}]',
        f'["EVENT","s",{TEXT},1]',
        '["OK"]',
        '["OK","x"]',
        '["OK","x",1,""]',
        '["OK",1,true,""]',
        '["OK","x",true,null]',
        '["OK","x",true,["a"]]',
        '["EOSE"]',
        '["EOSE",1]',
        '["CLOSED",1,"x"]',
        '["CLOSED","s",1]',
        '["NOTICE",1]',
        '["NOTICE"]',
        '["AUTH",{}]',
        '["CHANGE","x",{}]',
        '["CHANGE","x"]',
        '["COUNT","s",{"count":-1}]',
        '["COUNT","s",{"count":true}]',
        '["COUNT","s",1]',
        '["NEG-MSG","s"]',
        '["NEG-ERR","s",1]',
        "[[],[]]",
    ],
)
def test_misbehaving_relays(text: str) -> None:
    with pytest.raises((InvalidFrame, InvalidEvent)):
        parse_relay_frame(text)


def test_nothing_without_utf8_is_written() -> None:
    with pytest.raises(InvalidFrame):
        frames.notice_message("\ud800")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
labels = st.sampled_from(
    ["EVENT", "REQ", "CLOSE", "AUTH", "OK", "EOSE", "CLOSED", "NOTICE", "CHANGE", "RELEASE", "POSTMARK", "x"]
)


@given(elements=st.lists(json_values, max_size=4), label=labels)
@settings(max_examples=300, deadline=None)
def test_no_json_breaks_it(elements: list[Any], label: str) -> None:
    text = json.dumps([label, *elements])
    for parse in (parse_client_frame, parse_relay_frame):
        try:
            found = parse(text)
        except PennypostError as error:
            assert error.code in ("frame", "event")
        else:
            assert isinstance(found, msgspec.Struct)


@given(data=st.binary(max_size=80) | st.text(max_size=80))
@settings(max_examples=200, deadline=None)
def test_no_bytes_break_it(data: bytes | str) -> None:
    for parse in (parse_client_frame, parse_relay_frame):
        with pytest.raises(InvalidFrame):
            parse(data)
