from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol import nuts, secp
from pennypost.protocol.errors import PennypostError
from pennypost.protocol.nuts import BlindedMessage, Proof
from tests.protocol.vectors import load

NUT20 = load("nut20.json")
ID = "01" + "a" * 64
POINT, OTHER = "02" + "ab" * 32, "03" + "cd" * 32
KEY = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
SECRET = "shibboleth"
QUOTE = "019e6d5a-2347-7000-8322-05d51d498303"


def proof(**changes: object) -> dict[str, object]:
    return {"amount": 1, "id": ID, "secret": SECRET, "C": POINT} | changes


def output(**changes: object) -> dict[str, object]:
    return {"amount": 1, "id": ID, "B_": POINT} | changes


def swap(**changes: object) -> dict[str, object]:
    return {"inputs": [proof()], "outputs": [output()]} | changes


def mint(**changes: object) -> dict[str, object]:
    return {"quote": QUOTE, "outputs": [output()]} | changes


def quote(**changes: object) -> dict[str, object]:
    return {"amount": 10, "unit": "sat"} | changes


def body(value: object) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def number(parse: Callable[[bytes], object], value: object) -> int:
    """The NUT number of the refusal."""
    with pytest.raises(PennypostError) as caught:
        parse(body(value))
    assert caught.value.status == 400
    assert SECRET not in str(caught.value)
    return caught.value.cashu


def outputs(values: list[dict[str, Any]]) -> list[BlindedMessage]:
    return [BlindedMessage(**value) for value in values]


# What is read


def test_swap() -> None:
    request = swap(
        inputs=[proof(witness="{}", dleq={"e": 1, "r": "never read"}, x=1), proof(secret="é" * 512, amount=1 << 62)],
        outputs=[output(), output(B_=OTHER, id="00" + "b" * 14, amount=2, x=1)],
        x=1,
    )
    assert nuts.parse_swap(body(request)) == nuts.SwapRequest(
        [Proof(1, ID, SECRET, POINT, "{}"), Proof(1 << 62, ID, "é" * 512, POINT)],
        [BlindedMessage(1, ID, POINT), BlindedMessage(2, "00" + "b" * 14, OTHER)],
    )


def test_quote() -> None:
    assert nuts.parse_quote(body(quote())) == nuts.QuoteRequest(10, "sat")
    assert nuts.parse_quote(body(quote(description=None, pubkey=None, x=1))) == nuts.QuoteRequest(10, "sat")
    full = quote(description="é" * 319, pubkey=KEY)
    assert nuts.parse_quote(body(full)) == nuts.QuoteRequest(10, "sat", "é" * 319, KEY)


def test_mint() -> None:
    outputs = [BlindedMessage(1, ID, POINT)]
    assert nuts.parse_mint(body(mint())) == nuts.MintRequest(QUOTE, outputs)
    assert nuts.parse_mint(body(mint(signature=None))) == nuts.MintRequest(QUOTE, outputs)
    assert nuts.parse_mint(body(mint(signature="ab" * 64))) == nuts.MintRequest(QUOTE, outputs, "ab" * 64)


def test_check_state_keeps_order_repeats_and_case() -> None:
    Ys = [OTHER, POINT.upper(), POINT, OTHER]
    request = nuts.parse_check_state(body({"Ys": Ys}))
    assert request.Ys == Ys
    assert request.points() == [bytes.fromhex(Y) for Y in Ys]
    assert nuts.parse_check_state(b'{"Ys":[]}').Ys == []


def test_restore_takes_any_amount() -> None:
    values = [output(amount=0), output(amount=3, B_=OTHER), {"id": ID, "B_": KEY}]
    parsed = nuts.parse_restore(body({"outputs": values})).outputs
    assert parsed == [BlindedMessage(0, ID, POINT), BlindedMessage(3, ID, OTHER), BlindedMessage(0, ID, KEY)]


def test_blank_outputs() -> None:
    values = [output(amount=7), {"id": ID, "B_": OTHER}]
    assert nuts.parse_blank_outputs(values) == [BlindedMessage(0, ID, POINT), BlindedMessage(0, ID, OTHER)]
    assert nuts.parse_blank_outputs([]) == []


# What is refused: one row an attack

INPUTS: dict[str, tuple[int, list[object]]] = {
    **{
        f"amount {amount!r}": (11006, [proof(amount=amount)])
        for amount in ("1", 1.0, True, False, 0, -1, 3, 1 << 64, 1 << 65, None, [1], {"a": 1}, 1.5, "١", "1_0", " 1 ")
    },
    "no amount": (11006, [{"id": ID, "secret": SECRET, "C": POINT}]),
    "sum past 63 bits": (11006, [proof(secret=str(each), amount=1 << 62) for each in range(2)]),
    "amount of 2^63": (11006, [proof(amount=1 << 63)]),
    **{
        f"keyset {id!r}"[:30]: (12001, [proof(id=id)])
        for id in (
            None,
            1,
            "",
            ID.upper(),
            "../../etc/passwd",
            ID[:16],
            ID + "0",
            "I2yN+iRYfkzT",
            ID + "\n",
            "02" + ID[2:],
        )
    },
    **{
        f"C {C!r}"[:30]: (10001, [proof(C=C)])
        for C in (
            None,
            1,
            "",
            POINT.upper(),
            "04" + "ab" * 64,
            "06" + "ab" * 32,
            POINT[:64],
            POINT + " ",
            "02" + "é" * 64,
        )
    },
    **{
        f"secret {secret!r}"[:30]: (10001, [proof(secret=secret)])
        for secret in (None, 1, "", [], "x" * 1025, "é" * 513, "a\0b")
    },
    **{
        f"witness {witness!r}"[:30]: (10001, [proof(witness=witness)])
        for witness in (1, [], True, "x" * 1025, "é" * 513, "\0", {"x": "y" * 1017})
    },
    "not an object": (10001, [1]),
    "null": (10001, [None]),
    "a list": (10001, [[]]),
    "none": (11005, []),
    "twice": (11007, [proof(), proof()]),
    "twice, other C": (11007, [proof(), proof(C=OTHER)]),
    "twice, C in the other case": (11007, [proof(), proof(C=POINT.upper())]),
    "twice, other keyset": (11007, [proof(), proof(id="00" + "b" * 14)]),
    "twice, one of them bad": (11007, [proof(), proof(amount=0)]),
    "1,001": (11014, [proof(secret=str(each)) for each in range(1001)]),
    "1,001, each of them bad": (11014, [None] * 1001),
    "1,001 alike": (11014, [proof()] * 1001),
}

OUTPUTS: dict[str, tuple[int, list[object]]] = {
    **{
        f"amount {amount!r}": (11006, [output(amount=amount)])
        for amount in ("1", 1.0, True, 0, -1, 3, 1 << 63, 1 << 64, None, [1])
    },
    "no amount": (11006, [{"id": ID, "B_": POINT}]),
    "sum past 63 bits": (11006, [output(B_=B_, amount=1 << 62) for B_ in (POINT, OTHER)]),
    **{
        f"keyset {id!r}"[:30]: (12001, [output(id=id)]) for id in (None, 1, "", ID.upper(), "../../etc/passwd", ID[:16])
    },
    **{
        f"B_ {B_!r}"[:30]: (10001, [output(B_=B_)])
        for B_ in (None, 1, "", POINT.upper(), "04" + "ab" * 64, "06" + "ab" * 32, POINT[:64], POINT + "\n")
    },
    "not an object": (10001, [1]),
    "none": (11005, []),
    "twice": (11008, [output(), output()]),
    "twice, in the other case": (11008, [output(), output(B_=POINT.upper())]),
    "twice, other amount": (11008, [output(), output(amount=2)]),
    "twice, other keyset": (11008, [output(), output(id="00" + "b" * 14)]),
    "1,001": (11015, [output(B_="02" + f"{each:064x}") for each in range(1001)]),
    "1,001, each of them bad": (11015, [None] * 1001),
}

BODIES: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"{",
    "null": b"null",
    "a list": b"[]",
    "a text": b'"x"',
    "NaN": b'{"inputs":NaN,"outputs":[]}',
    "1e999": b'{"inputs":[{"amount":1e999}],"outputs":[]}',
    "5,000 digits": b'{"inputs":[{"amount":' + b"1" * 5000 + b'}],"outputs":[]}',
    "deep": b'{"inputs":' + b"[" * 100_000,
    "deep and whole": b'{"inputs":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "BOM": b"\xef\xbb\xbf{}",
    "UTF-16": '{"inputs":[]}'.encode("utf-16"),
    "not UTF-8": b'{"inputs":"\xff"}',
    "lone surrogate": b'{"inputs":[{"secret":"\\ud800"}],"outputs":[]}',
    "lone surrogate raw": b'{"inputs":"\xed\xa0\x80"}',
    "something after its end": b"{}{}",
}


@pytest.mark.parametrize("name", INPUTS)
def test_bad_inputs(name: str) -> None:
    code, inputs = INPUTS[name]
    assert number(nuts.parse_swap, swap(inputs=inputs)) == code


@pytest.mark.parametrize("name", OUTPUTS)
def test_bad_outputs(name: str) -> None:
    code, outputs = OUTPUTS[name]
    assert number(nuts.parse_swap, swap(outputs=outputs)) == code
    assert number(nuts.parse_mint, mint(outputs=outputs)) == code


@pytest.mark.parametrize("name", BODIES)
def test_bad_bodies(name: str) -> None:
    for parse in (nuts.parse_swap, nuts.parse_quote, nuts.parse_mint, nuts.parse_check_state, nuts.parse_restore):
        assert number(parse, BODIES[name]) == 10000


@pytest.mark.parametrize("value", [None, 1, "x", {}])
def test_lists_that_are_none(value: object) -> None:
    assert number(nuts.parse_swap, swap(inputs=value)) == 10000
    assert number(nuts.parse_swap, swap(outputs=value)) == 10000
    assert number(nuts.parse_mint, mint(outputs=value)) == 10000
    assert number(nuts.parse_restore, {"outputs": value}) == 10000
    assert number(nuts.parse_check_state, {"Ys": value}) == 10000


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        *(({"amount": amount}, 11006) for amount in ("1", 1.0, True, 0, -1, None, 1 << 63, 1 << 64, [1])),
        *(({"unit": unit}, 11013) for unit in (None, 1, "", "x" * 33, ["sat"])),
        *(({"description": text}, 10000) for text in (1, "x" * 640, "é" * 320, "a\0b", {})),
        *(
            ({"pubkey": key}, 20009)
            for key in ("", 1, KEY.upper(), KEY[2:], "04" + KEY[2:], KEY + "\n", "02" + "0" * 63 + "5", {})
        ),
    ],
)
def test_bad_quotes(changes: dict[str, object], code: int) -> None:
    assert number(nuts.parse_quote, quote(**changes)) == code


@pytest.mark.parametrize("value", [None, 1, "", "x" * 65, "../x", "a b", "é", QUOTE + "\n", [QUOTE]])
def test_bad_quote_ids(value: object) -> None:
    assert number(nuts.parse_mint, mint(quote=value)) == 20010


@pytest.mark.parametrize("value", [1, "", "ab" * 63, "ab" * 65, "zz" * 64, "AB" * 64, "ab" * 64 + "\n", {}])
def test_bad_signatures(value: object) -> None:
    assert number(nuts.parse_mint, mint(signature=value)) == 20008


@pytest.mark.parametrize(
    ("Ys", "code"),
    [
        ([None], 10000),
        ([1], 10000),
        ([""], 10000),
        ([POINT[2:]], 10000),
        (["04" + "ab" * 64], 10000),
        ([POINT, POINT + "\n"], 10000),
        (["0٢" + "ab" * 32], 10000),
        ([POINT] * 1001, 11014),
        ([None] * 1001, 11014),
    ],
)
def test_bad_ys(Ys: list[object], code: int) -> None:
    assert number(nuts.parse_check_state, {"Ys": Ys}) == code


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ([None], 10001),
        ([output(amount=-1)], 11006),
        ([output(amount=True)], 11006),
        ([output(amount="0")], 11006),
        ([output(amount=1 << 64)], 11006),
        ([output(id="x")], 12001),
        ([output(B_=POINT.upper())], 10001),
        ([output(), output(B_=POINT.upper())], 11008),
        ([None] * 1001, 11015),
    ],
)
def test_bad_restores_and_blanks(values: list[object], code: int) -> None:
    assert number(nuts.parse_restore, {"outputs": values}) == code
    assert number(lambda data: nuts.parse_blank_outputs(json.loads(data)), values) == code


def test_blanks_are_bounded() -> None:
    assert number(lambda _: nuts.parse_blank_outputs([None] * 65), b"") == 11015
    assert number(lambda _: nuts.parse_blank_outputs([None] * 3, 2), b"") == 11015
    assert number(lambda _: nuts.parse_blank_outputs({"a": 1}), b"") == 10000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "inputs": st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(proof(), json_values)) | json_values),
        "outputs": st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(output(), json_values)) | json_values),
        "Ys": json_values,
        "quote": json_values,
        "amount": json_values,
        "unit": json_values,
        "signature": json_values,
    },
)


@settings(max_examples=150)
@given(bodies | json_values)
def test_any_json_is_read_or_refused(value: object) -> None:
    data = msgspec.json.encode(value)
    for parse in (nuts.parse_swap, nuts.parse_quote, nuts.parse_mint, nuts.parse_check_state, nuts.parse_restore):
        with suppress(PennypostError):
            parse(data)


@settings(max_examples=150)
@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for parse in (nuts.parse_swap, nuts.parse_quote, nuts.parse_mint, nuts.parse_check_state, nuts.parse_restore):
        with suppress(PennypostError):
            parse(data)


def test_a_witness_that_is_an_object_is_read_as_its_text() -> None:
    request = swap(inputs=[proof(witness={"signatures": ["ab"], "preimage": None})], outputs=[output()])
    [read] = nuts.parse_swap(body(request)).inputs
    assert read.witness == '{"signatures":["ab"],"preimage":null}'


# NUT-20


@pytest.mark.parametrize("vector", NUT20["amended"], ids=["NUT-20", "NUT-29"])
def test_amended_quote_signature(vector: dict[str, Any]) -> None:
    parsed = outputs(vector["outputs"])
    assert nuts.quote_message(vector["quote"], parsed).hex() == vector["message"]
    assert nuts.quote_hashes(vector["quote"], parsed)[0].hex() == vector["hash"]
    assert nuts.verify_quote(vector["pubkey"], vector["quote"], parsed, vector["signature"])


def test_older_quote_signature() -> None:
    vector = NUT20["older"]
    for request, valid in ((vector["valid"], True), (vector["invalid"], False)):
        parsed = outputs(request["outputs"])
        assert nuts.older_quote_message(request["quote"], parsed).decode() == vector["message"]
        assert nuts.verify_quote(vector["pubkey"], request["quote"], parsed, request["signature"]) is valid


def test_amounts_are_as_short_as_they_can_be() -> None:
    empty = len(nuts.quote_message("q", []))
    for amount, field in ((0, ""), (1, "01"), (256, "0100"), (1 << 63, "8000000000000000")):
        message = nuts.quote_message("q", [BlindedMessage(amount, ID, POINT)])
        assert message[empty:].hex() == f"{len(field) // 2:08x}{field}00000021{POINT}"


@pytest.mark.parametrize("older", [False, True])
def test_quote_signatures_hold_for_what_was_signed_alone(older: bool) -> None:
    key, aux = bytes([5] * 32), bytes(32)
    pubkey = secp.point(key).hex()
    first, second = BlindedMessage(1, ID, POINT), BlindedMessage(2, ID, OTHER)
    signature = nuts.sign_quote(key, QUOTE, [first, second], aux, older=older)
    assert nuts.verify_quote(pubkey, QUOTE, [first, second], signature)
    for wrong in ([first], [second, first], [first, second, second], [first, BlindedMessage(2, ID, KEY)]):
        assert not nuts.verify_quote(pubkey, QUOTE, wrong, signature)
    assert not nuts.verify_quote(pubkey, QUOTE[:-1] + "4", [first, second], signature)
    assert not nuts.verify_quote(KEY, QUOTE, [first, second], signature)
    for bad in (None, "", signature[:-2], signature.upper(), signature + "\n", "00" * 64):
        assert not nuts.verify_quote(pubkey, QUOTE, [first, second], bad)
    for bad in ("", pubkey[2:], pubkey.upper(), "04" + pubkey[2:], "02" + "0" * 63 + "5"):
        assert not nuts.verify_quote(bad, QUOTE, [first, second], signature)
    changed = [BlindedMessage(4, ID, POINT), second]
    # Only the amended message commits to amounts.
    assert nuts.verify_quote(pubkey, QUOTE, changed, signature) is older
