"""Names and the answers of their servers: what is read, and what strangers may send."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pennypost.protocol import secp
from pennypost.protocol.errors import InvalidKey, NameUnknown, OfficeMisbehaves
from pennypost.protocol.nip05 import Name, is_name, parse_name, read_key

BOB = Name("bob", "example.com")
KEY = secp.xonly(b"\x01" * 32)


@pytest.mark.parametrize(
    ("text", "local", "host"),
    [
        ("bob@example.com", "bob", "example.com"),
        (" Bob@Example.COM ", "bob", "example.com"),
        ("_@example.com", "_", "example.com"),
        ("a.b-c_d9@x.y.example", "a.b-c_d9", "x.y.example"),
        ("bob@localhost:8443", "bob", "localhost:8443"),
        ("bob@127.0.0.1", "bob", "127.0.0.1"),
    ],
)
def test_names(text: str, local: str, host: str) -> None:
    assert is_name(text) and parse_name(text) == Name(local, host)
    assert parse_name(text).url == f"https://{host}/.well-known/nostr.json?name={local}"


@pytest.mark.parametrize(
    "text",
    [
        "@example.com", "bob@", "bob@@example.com", "bob@a@b", "bo b@example.com", "bob@exa mple.com", "bob@a.b/x",
        "bob@example.com?x", "bob@example.com#", "bob@user:x@example.com", "bob@.example.com", "bob@example..com",
        "bob@-example.com", "bob@example.com:0", "bob@example.com:65536", "bob@example.com:", "bob@example.com:١",
        "bob@[::1]", "böb@example.com", "bob@exämple.com", "\u212a@example.com", "bob&name=eve@example.com", "bob@a\nb",
        "b" * 65 + "@example.com", "bob@" + "a" * 64 + ".example", "bob@" + "a." * 200 + "example", "@", "",
    ],
)  # fmt: skip
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(InvalidKey):
        parse_name(text)


def test_an_answer() -> None:
    answer = {"names": {"bob": KEY.hex(), "eve": "x"}, "relays": {KEY.hex(): ["wss://relay.example"]}}
    assert read_key(json.dumps(answer).encode(), BOB) == KEY


@pytest.mark.parametrize("names", [{}, {"Bob": KEY.hex()}, {"bob": None}])
def test_nobody_of_this_name(names: object) -> None:
    with pytest.raises(NameUnknown):
        read_key(json.dumps({"names": names}).encode(), BOB)


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"{", b"[]", b"null", b"{}", b'{"names":[]}', b'{"names":"bob"}', b'{"names":{"bob":1}}', b"\xff",
        b'{"names":{"bob":["x"]}}', b'{"names":{"bob":"' + KEY.hex().upper().encode() + b'"}}', b"[" * 100_000,
        b'{"names":' * 50_000, b'{"names":{"bob":"' + b"f" * 64 + b'"}}', b'{"names":{"bob":"\\ud800"}}',
        b'{"names":{"bob":"02' + KEY.hex().encode() + b'"}}', b'{"names":{"bob":"npub1"}}',
    ],
)  # fmt: skip
def test_answers_that_are_none(answer: bytes) -> None:
    with pytest.raises(OfficeMisbehaves):
        read_key(answer, BOB)


@given(st.text(max_size=400))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        name = parse_name(text)
    except InvalidKey:
        return
    assert parse_name(str(name)) == name and name.url.isascii() and name.url.isprintable()
    assert name.url.count("?") == 1 and name.url.count("@") == 0


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=70) | st.just(KEY.hex()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["names", "bob", "x"]), inner),
    max_leaves=6,
)


@given(st.binary(max_size=200) | _json.map(lambda each: json.dumps(each).encode()))
def test_any_answer_is_a_key_or_refused(answer: bytes) -> None:
    try:
        key = read_key(answer, BOB)
    except (NameUnknown, OfficeMisbehaves):
        return
    assert key.hex() == json.loads(answer)["names"]["bob"]
