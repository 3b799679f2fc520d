from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from pennypost.protocol import answers
from pennypost.protocol.answers import KeysAnswer, KeysetKeys, encode, keys_of, read_answer
from pennypost.protocol.errors import OfficeMisbehaves
from pennypost.protocol.keyset import keyset_id_v1, keyset_id_v2
from tests.protocol.vectors import load

NUT01, NUT02, NUT12 = load("nut01.json"), load("nut02.json"), load("nut12.json")
ID = "01" + "a" * 64
POINT = "02" + "ab" * 32
SIGNATURE: dict[str, Any] = {"amount": 1, "id": ID, "C_": POINT, "dleq": {"e": "1" * 64, "s": "2" * 64}}
QUOTE: dict[str, Any] = {
    "quote": "019e6d5a-2347-7000-8322-05d51d498303",
    "request": "lnbc100n1pj4apw9",
    "amount": 10,
    "unit": "sat",
    "state": "UNPAID",
    "expiry": 1701704757,
    "pubkey": None,
    "method": "bolt11",
    "amount_paid": 0,
    "amount_issued": 0,
    "updated_at": 1701704700,
}
STATE: dict[str, Any] = {"Y": POINT, "state": "SPENT", "witness": None}
KEYS = NUT02["version2"][0]
KEYSET: dict[str, Any] = {
    "id": KEYS["id"],
    "unit": "sat",
    "keys": KEYS["keys"],
    "active": True,
    "input_fee_ppk": 100,
    "final_expiry": KEYS["final_expiry"],
}
INFO: dict[str, Any] = {"id": ID, "unit": "sat", "active": True, "input_fee_ppk": 0, "final_expiry": None}

ANSWERS: list[tuple[type[msgspec.Struct], dict[str, Any]]] = [
    (answers.SignaturesAnswer, {"signatures": [SIGNATURE, {k: v for k, v in SIGNATURE.items() if k != "dleq"}]}),
    (answers.SignaturesAnswer, {"signatures": [NUT12["blind_signature"]["signature"]]}),
    (answers.RestoreAnswer, {"outputs": [{"amount": 0, "id": ID, "B_": POINT}], "signatures": [SIGNATURE]}),
    (answers.CheckStateAnswer, {"states": [STATE, STATE | {"Y": POINT.upper(), "state": "UNSPENT"}]}),
    (answers.QuoteAnswer, QUOTE),
    (answers.QuoteAnswer, QUOTE | {"pubkey": POINT, "expiry": None, "state": "ISSUED"}),
    (answers.KeysAnswer, {"keysets": [KEYSET]}),
    (answers.KeysetsAnswer, {"keysets": [INFO, INFO | {"id": "an older id", "input_fee_ppk": None}]}),
    (answers.MintInfo, {"name": "pennypost", "nuts": {"4": {"methods": [], "disabled": False}}}),
    (answers.ErrorAnswer, {"detail": "oops", "code": 1337}),
]


@pytest.mark.parametrize(("kind", "value"), ANSWERS)
def test_what_is_written_is_read(kind: type[msgspec.Struct], value: dict[str, Any]) -> None:
    parsed = read_answer(json.dumps(value).encode(), kind)
    assert json.loads(encode(parsed)) == value
    assert read_answer(json.dumps(value | {"unknown": [1]}).encode(), kind) == parsed


def test_older_mints_leave_fields_out() -> None:
    quote = read_answer(b'{"quote":"q","request":"lnbc1","unit":"sat","state":"PAID"}', answers.QuoteAnswer)
    assert (quote.amount, quote.expiry, quote.pubkey, quote.amount_paid) == (None, None, None, None)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (answers.SignaturesAnswer, None),
        (answers.SignaturesAnswer, []),
        (answers.SignaturesAnswer, {}),
        (answers.SignaturesAnswer, {"signatures": [SIGNATURE] * 1001}),
        *(
            (answers.SignaturesAnswer, {"signatures": [SIGNATURE | change]})
            for change in (
                {"amount": -1},
                {"amount": "1"},
                {"amount": True},
                {"amount": 1.0},
                {"amount": 1 << 64},
                {"id": ID.upper()},
                {"id": ID[:16]},
                {"id": "00" + "a" * 14 + "\n"},
                {"C_": POINT.upper()},
                {"C_": POINT + "\n"},
                {"C_": "04" + "ab" * 64},
                {"dleq": {"e": "1" * 64}},
                {"dleq": {"e": "1" * 64, "s": "x"}},
            )
        ),
        (answers.QuoteAnswer, QUOTE | {"pubkey": ""}),
        (answers.QuoteAnswer, QUOTE | {"state": "MAYBE"}),
        (answers.QuoteAnswer, QUOTE | {"quote": ""}),
        (answers.QuoteAnswer, QUOTE | {"request": "x" * 70_000}),
        (answers.CheckStateAnswer, {"states": [STATE | {"state": "spent"}]}),
        (answers.KeysAnswer, {"keysets": [KEYSET | {"keys": {str(number): POINT for number in range(300)}}]}),
        (answers.KeysAnswer, {"keysets": [KEYSET | {"input_fee_ppk": -1}]}),
        (answers.ErrorAnswer, {"detail": 1, "code": "x"}),
    ],
)
def test_what_no_mint_may_answer(kind: type[msgspec.Struct], value: object) -> None:
    with pytest.raises(OfficeMisbehaves):
        read_answer(json.dumps(value).encode(), kind)


@pytest.mark.parametrize("data", [b"", b"<html>", b"[" * 100_000, b'{"signatures":"\xff"}', b'{"signatures":NaN}'])
def test_what_is_no_json(data: bytes) -> None:
    with pytest.raises(OfficeMisbehaves):
        read_answer(data, answers.SignaturesAnswer)


def keyset(keys: dict[str, str]) -> dict[str, Any]:
    """A keyset whose id follows from whatever its keys are."""
    computed = keyset_id_v1({int(amount): bytes.fromhex(key) for amount, key in keys.items()})
    return {"id": computed, "unit": "sat", "keys": keys}


def accepted(value: dict[str, Any]) -> dict[int, bytes]:
    (parsed,) = read_answer(json.dumps({"keysets": [value]}).encode(), KeysAnswer).keysets
    return keys_of(parsed)


@pytest.mark.parametrize("keys", NUT01["correct"], ids=len)
def test_correct_keysets(keys: dict[str, str]) -> None:
    assert accepted(keyset(keys)) == {int(amount): bytes.fromhex(key) for amount, key in keys.items()}


@pytest.mark.parametrize("keys", NUT01["incorrect"], ids=["a byte missing", "not compressed"])
def test_incorrect_keysets(keys: dict[str, str]) -> None:
    with pytest.raises(OfficeMisbehaves):
        accepted(keyset(keys))


@pytest.mark.parametrize("vector", NUT02["version2"], ids=lambda vector: vector["id"][:8])
def test_ids_of_version_2(vector: dict[str, Any]) -> None:
    value = {name: vector[name] for name in ("id", "unit", "keys", "input_fee_ppk", "final_expiry")}
    assert len(accepted(value)) == len(vector["keys"])
    one, two = list(vector["keys"])[:2]
    swapped = vector["keys"] | {one: vector["keys"][two], two: vector["keys"][one]}
    changes: list[dict[str, Any]] = [{"keys": swapped}, {"unit": "usd"}, {"input_fee_ppk": 1}, {"final_expiry": 1}]
    for change in changes:
        with pytest.raises(OfficeMisbehaves):
            accepted(value | change)


@pytest.mark.parametrize("amount", ["0", "01", "-1", "1.0", "", " 1", "1_0", "٢", "1" * 20, "x"])
def test_amounts_that_are_none(amount: str) -> None:
    good = NUT01["correct"][0]["1"]
    with pytest.raises(OfficeMisbehaves):
        keys_of(KeysetKeys("00" + "0" * 14, "sat", {amount: good}))


def test_keys_off_the_curve_and_no_keys() -> None:
    off_curve = bytes.fromhex("02" + "0" * 63 + "5")
    for keys in ({1: off_curve}, {}):
        texts = {str(amount): key.hex() for amount, key in keys.items()}
        for id in (keyset_id_v1(keys), keyset_id_v2(keys, "sat")):
            with pytest.raises(OfficeMisbehaves):
                keys_of(KeysetKeys(id, "sat", texts))
