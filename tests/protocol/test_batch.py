"""Requests of several quotes at once (NUT-29): what is read, and one row a refusal with its number."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pennypost.protocol import nuts, secp
from pennypost.protocol.errors import PennypostError
from pennypost.protocol.nuts import MAX_BATCH, BlindedMessage
from tests.protocol.vectors import load

ID = "01" + "a" * 64
POINT, OTHER = "02" + "ab" * 32, "03" + "cd" * 32
SIGNATURE = "ab" * 64


def batch(**changes: object) -> dict[str, Any]:
    outputs = [{"amount": 4, "id": ID, "B_": POINT}, {"amount": 4, "id": ID, "B_": OTHER}]
    return {"quotes": ["quote_id_a", "quote_id_b"], "quote_amounts": [5, 3], "outputs": outputs} | changes


def number(parse: Any, value: object) -> int:
    with pytest.raises(PennypostError) as caught:
        parse(json.dumps(value).encode())
    assert caught.value.status == 400
    assert "quote_id" not in str(caught.value)
    return caught.value.cashu


def test_batch() -> None:
    outputs = [BlindedMessage(4, ID, POINT), BlindedMessage(4, ID, OTHER)]
    quotes = ["quote_id_a", "quote_id_b"]
    read = nuts.parse_batch_mint(json.dumps(batch(signatures=[None, SIGNATURE], x=1)).encode())
    assert read == nuts.BatchMintRequest(quotes, outputs, [5, 3], [None, SIGNATURE])
    plain = batch(quote_amounts=None, signatures=None)
    assert nuts.parse_batch_mint(json.dumps(plain).encode()) == nuts.BatchMintRequest(quotes, outputs)


def test_check() -> None:
    assert nuts.parse_batch_check(b'{"quotes": ["b", "a"]}').quotes == ["b", "a"]
    assert nuts.parse_batch_check(b'{"quotes": []}').quotes == []


MANY = [f"quote_id_{index}" for index in range(MAX_BATCH + 1)]

# The published cases: empty, duplicate, length of the signatures.
REFUSED = [
    ("no quotes", {"quotes": []}, 10000),
    ("quotes missing", {"quotes": None}, 10000),
    ("quotes as text", {"quotes": "quote_id_a"}, 10000),
    ("a quote twice", {"quotes": ["quote_id_a", "quote_id_a"]}, 11016),
    ("101 quotes", {"quotes": MANY, "quote_amounts": None}, 11017),
    ("101 quotes, all the same", {"quotes": ["quote_id_a"] * 101, "quote_amounts": None}, 11017),
    ("a quote that is a number", {"quotes": ["quote_id_a", 1]}, 20010),
    ("a quote that is a list", {"quotes": ["quote_id_a", ["quote_id_b"]]}, 20010),
    ("a quote like a path", {"quotes": ["quote_id_a", "../x"]}, 20010),
    ("an empty quote", {"quotes": ["quote_id_a", ""]}, 20010),
    ("amounts of one quote alone", {"quote_amounts": [8]}, 10000),
    ("amounts as a number", {"quote_amounts": 8}, 10000),
    ("an amount as text", {"quote_amounts": ["5", 3]}, 11006),
    ("an amount with a fraction", {"quote_amounts": [5.0, 3]}, 11006),
    ("an amount that is true", {"quote_amounts": [True, 7]}, 11006),
    ("an amount of nothing", {"quote_amounts": [8, 0]}, 11006),
    ("an amount below nothing", {"quote_amounts": [9, -1]}, 11006),
    ("an amount of 64 bits", {"quote_amounts": [1 << 63, 3]}, 11006),
    ("amounts above the outputs", {"quote_amounts": [5, 4]}, 11005),
    ("amounts below the outputs", {"quote_amounts": [5, 2]}, 11005),
    ("a signature of one quote alone", {"signatures": [SIGNATURE]}, 20008),
    ("signatures of nobody", {"signatures": []}, 20008),
    ("signatures as text", {"signatures": SIGNATURE}, 20008),
    ("a short signature", {"signatures": [None, SIGNATURE[:-1]]}, 20008),
    ("a signature in upper case", {"signatures": [None, SIGNATURE.upper()]}, 20008),
    ("a signature that is a number", {"signatures": [None, 1]}, 20008),
    ("no outputs", {"outputs": []}, 11005),
    ("outputs missing", {"outputs": None}, 10000),
    ("an output twice", {"outputs": [{"amount": 4, "id": ID, "B_": POINT}] * 2}, 11008),
    ("1,001 outputs", {"outputs": [{}] * 1_001}, 11015),
    ("an amount that is no power of two", {"outputs": [{"amount": 8.0, "id": ID, "B_": POINT}]}, 11006),
]


@pytest.mark.parametrize(("changes", "code"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_batch_is_refused(changes: dict[str, Any], code: int) -> None:
    assert number(nuts.parse_batch_mint, batch(**changes)) == code


CHECKS = [row for row in REFUSED if list(row[1]) == ["quotes"] and row[1]["quotes"] != []]


@pytest.mark.parametrize(("changes", "code"), [row[1:] for row in CHECKS], ids=[row[0] for row in CHECKS])
def test_a_check_is_refused(changes: dict[str, Any], code: int) -> None:
    assert number(nuts.parse_batch_check, changes) == code


@pytest.mark.parametrize("case", load("nut20.json")["amended"], ids=lambda case: case["quote"])
def test_published_signatures_over_a_batch(case: dict[str, Any]) -> None:
    outputs = [BlindedMessage(**each) for each in case["outputs"]]
    pub, signature = bytes.fromhex(case["pubkey"])[1:], bytes.fromhex(case["signature"])
    hashes = nuts.batch_hashes(["another", case["quote"]], outputs)
    assert hashes == [nuts.quote_hashes("another", outputs), nuts.quote_hashes(case["quote"], outputs)]
    assert [secp.schnorr_verify(pub, each, signature) for each in hashes[1]] == [True, False]
    assert [secp.schnorr_verify(pub, each, signature) for each in hashes[0]] == [False, False]
