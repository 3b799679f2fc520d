"""Requests over a mint's websocket (NUT-17): one row a refusal, and the form of what is answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol.answers import ProofState
from pennypost.protocol.errors import (
    PennypostError,
    RpcInvalid,
    RpcMethod,
    RpcParams,
    RpcUnparseable,
    TooManySubscriptions,
)
from pennypost.protocol.subscription import (
    Kind,
    Subscribe,
    Unsubscribe,
    error_answer,
    notification,
    ok_answer,
    read_command,
    read_request,
)

# The example of NUT-17, ProofState subscription.
Y = "02e208f9a78cd523444aadf854a4e91281d20f67a923d345239c37f14e137c7c3d"
NAME = "019e6d5a-2347-7000-8afa-051ae571f334"
EXAMPLE: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "subscribe",
    "params": {"kind": "proof_state", "filters": [Y], "subId": NAME},
}

UNREADABLE = [
    ("empty", "", RpcUnparseable),
    ("ping", "ping", RpcUnparseable),
    ("open object", "{", RpcUnparseable),
    ("100,000 brackets", "[" * 100_000, RpcUnparseable),
    ("NaN", '{"id": NaN}', RpcUnparseable),
    ("a lone surrogate", '{"id": "\\ud800"}', RpcUnparseable),
    ("trailing text", json.dumps(EXAMPLE) + "x", RpcUnparseable),
    ("a list", "[]", RpcInvalid),
    ("a batch", json.dumps([EXAMPLE]), RpcInvalid),
    ("null", "null", RpcInvalid),
    ("an empty object", "{}", RpcInvalid),
]


@pytest.mark.parametrize(("text", "error"), [row[1:] for row in UNREADABLE], ids=[row[0] for row in UNREADABLE])
def test_what_is_no_request(text: str, error: type[PennypostError]) -> None:
    with pytest.raises(error):
        read_request(text)


ENVELOPES = [
    ("no version", {"jsonrpc": None}),
    ("another version", {"jsonrpc": "1.0"}),
    ("a version that is a number", {"jsonrpc": 2.0}),
    ("no method", {"method": None}),
    ("a method that is a list", {"method": ["subscribe"]}),
    ("no id", {"id": None}),
    ("true for an id", {"id": True}),
    ("an id with a fraction", {"id": 1.5}),
    ("an id of 70 bits", {"id": 1 << 70}),
    ("an id that is a list", {"id": []}),
    ("a long id", {"id": "x" * 129}),
]


@pytest.mark.parametrize("fields", [row[1] for row in ENVELOPES], ids=[row[0] for row in ENVELOPES])
def test_a_request_without_its_envelope(fields: dict[str, Any]) -> None:
    with pytest.raises(RpcInvalid):
        read_request(json.dumps(EXAMPLE | fields))


COMMANDS = [
    ("another method", {"method": "unsub"}, RpcMethod),
    ("a method in upper case", {"method": "SUBSCRIBE"}, RpcMethod),
    ("no params", {"params": None}, RpcParams),
    ("params as a list", {"params": ["proof_state"]}, RpcParams),
    ("params as text", {"params": json.dumps(EXAMPLE["params"])}, RpcParams),
]
PARAMS = [
    ("no subId", {"subId": None}),
    ("an empty subId", {"subId": ""}),
    ("a long subId", {"subId": "x" * 129}),
    ("a subId that is a number", {"subId": 1}),
    ("no kind", {"kind": None}),
    ("a melt quote", {"kind": "bolt11_melt_quote"}),
    ("a kind that is a list", {"kind": ["proof_state"]}),
    ("no filters", {"filters": None}),
    ("filters empty", {"filters": []}),
    ("filters as text", {"filters": Y}),
    ("1,001 filters", {"filters": [Y] * 1_001}),
    ("a filter that is a number", {"filters": [Y, 1]}),
    ("a Y off the form", {"filters": [Y, Y[:-1]]}),
    ("a Y with a line feed", {"filters": [Y + "\n"]}),
    ("a Y uncompressed", {"filters": ["04" + "ab" * 64]}),
    ("a quote like a path", {"kind": "bolt11_mint_quote", "filters": ["../x"]}),
    ("a quote too long", {"kind": "bolt11_mint_quote", "filters": ["a" * 65]}),
    ("a quote that is empty", {"kind": "bolt11_mint_quote", "filters": [""]}),
]


@pytest.mark.parametrize(("fields", "error"), [row[1:] for row in COMMANDS], ids=[row[0] for row in COMMANDS])
def test_what_is_no_command(fields: dict[str, Any], error: type[PennypostError]) -> None:
    with pytest.raises(error):
        read_command(read_request(json.dumps(EXAMPLE | fields)))


@pytest.mark.parametrize("fields", [row[1] for row in PARAMS], ids=[row[0] for row in PARAMS])
def test_parameters_that_are_not_usable(fields: dict[str, Any]) -> None:
    request = read_request(json.dumps(EXAMPLE | {"params": EXAMPLE["params"] | fields}))
    assert request.id == 0
    with pytest.raises(RpcParams):
        read_command(request)


def test_the_example_of_the_specification() -> None:
    request = read_request(json.dumps(EXAMPLE))
    assert read_command(request) == Subscribe(Kind.PROOF_STATE, NAME, [Y])
    assert json.loads(ok_answer(request.id, NAME)) == {
        "jsonrpc": "2.0",
        "result": {"status": "OK", "subId": NAME},
        "id": 0,
    }
    assert json.loads(notification(NAME, ProofState(Y, "UNSPENT"))) == {
        "jsonrpc": "2.0",
        "method": "subscribe",
        "params": {"subId": NAME, "payload": {"Y": Y, "state": "UNSPENT", "witness": None}},
    }
    ended = {"jsonrpc": "2.0", "id": 1, "method": "unsubscribe", "params": {"subId": NAME}}
    assert read_command(read_request(json.dumps(ended))) == Unsubscribe(NAME)


def test_a_filter_named_twice_is_one() -> None:
    params = EXAMPLE["params"] | {"kind": "bolt11_mint_quote", "filters": ["a", "b", "a"]}
    command = read_command(read_request(json.dumps(EXAMPLE | {"params": params, "id": "seven"})))
    assert command == Subscribe(Kind.MINT_QUOTE, NAME, ["a", "b"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RpcUnparseable(), -32700),
        (RpcInvalid(), -32600),
        (RpcMethod(), -32601),
        (RpcParams(), -32602),
        (TooManySubscriptions(), -32000),
    ],
)
def test_codes_of_refusals(error: PennypostError, code: int) -> None:
    answer = json.loads(error_answer("1", error))
    assert (answer["jsonrpc"], answer["id"], answer["error"]["code"]) == ("2.0", "1", code)
    assert answer["error"]["message"].endswith(f"[{error.code}]")
    assert json.loads(error_answer(None, error))["id"] is None


def test_names_are_escaped() -> None:
    name = '"},{"\u2028\n'
    assert json.loads(ok_answer(name, name))["result"]["subId"] == name
    assert json.loads(notification(name, ProofState(Y, "SPENT")))["params"]["subId"] == name


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.just("2.0"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["jsonrpc", "id", "method", "params", "kind", "subId", "filters"]) | st.text(max_size=4),
            inner,
            max_size=7,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(VALUES | st.fixed_dictionaries(dict.fromkeys(EXAMPLE, VALUES)) | st.text())
def test_whatever_comes_is_a_command_or_an_error_of_the_tree(value: object) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    try:
        assert isinstance(read_command(read_request(text)), Subscribe | Unsubscribe)
    except PennypostError as error:
        assert json.loads(error_answer(None, error))["error"]["code"] < 0
