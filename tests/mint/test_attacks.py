"""What people throw at the mint: one row a case, each with its status and code, and never any harm.

The rows of a swap are a valid swap of one proof of 8 sat with something changed; after each, the proof is
unspent and nothing was signed.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

import pytest

from pennypost.protocol import bdhke, secp
from tests.mint.desk import MINT, QUOTE, SWAP, Body, Desk, locked_output
from tests.support.stamps import output

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNKNOWN = "01" + "ab" * 32
"""A keyset id of the right form."""

PATHS = (QUOTE, MINT, SWAP, "/v1/checkstate", "/v1/restore")


def point() -> str:
    return secp.point(secrets.token_bytes(32)).hex()


def uncompressed() -> str:
    return secp.serialize_uncompressed(secp.parse(bytes.fromhex(point()))).hex()


OFF_CURVE = "02" + "ff" * 32
AMOUNTS: list[Any] = ["8", 8.0, True, None, 0, -1, 3, 2**63 + 1, 2**64, [8]]

Change = Callable[[Body], Any]


def first_input(**fields: Any) -> Change:
    return lambda body: body | {"inputs": [body["inputs"][0] | fields]}


def first_output(**fields: Any) -> Change:
    return lambda body: body | {"outputs": [body["outputs"][0] | fields]}


def twice(side: str, **fields: Any) -> Change:
    return lambda body: body | {side: [body[side][0], body[side][0] | fields]}


def upper(text: str) -> str:
    return text[:2] + text[2:].upper()


SWAPS: list[tuple[str, Change, int]] = [
    ("the same input twice", twice("inputs"), 11007),
    ("the same input twice, other C", twice("inputs", C=point()), 11007),
    ("the same output twice", twice("outputs"), 11008),
    ("the same output twice, other amount", twice("outputs", amount=4), 11008),
    ("the same output in other hex case", lambda b: twice("outputs", B_=upper(b["outputs"][0]["B_"]))(b), 11008),
    ("forged C", first_input(C=point()), 10001),
    ("C off the curve", first_input(C=OFF_CURVE), 10001),
    ("C uncompressed", first_input(C=uncompressed()), 10001),
    ("C in upper case", lambda b: first_input(C=upper(b["inputs"][0]["C"]))(b), 10001),
    ("C with a space", lambda b: first_input(C=b["inputs"][0]["C"][:-1] + " ")(b), 10001),
    ("C a number", first_input(C=1), 10001),
    ("C missing", lambda b: b | {"inputs": [{k: v for k, v in b["inputs"][0].items() if k != "C"}]}, 10001),
    ("the key of another amount", lambda b: first_output(amount=4)(first_input(amount=4)(b)), 10001),
    ("an input amount without a key", first_input(amount=2**40), 10001),
    ("an output amount without a key", first_output(amount=2**40), 11006),
    ("an input that is a number", lambda b: b | {"inputs": [1]}, 10001),
    ("an output that is a list", lambda b: b | {"outputs": [[]]}, 10001),
    ("B_ off the curve", first_output(B_=OFF_CURVE), 10001),
    ("B_ uncompressed", first_output(B_=uncompressed()), 10001),
    ("B_ in upper case", lambda b: first_output(B_=upper(b["outputs"][0]["B_"]))(b), 10001),
    ("B_ null", first_output(B_=None), 10001),
    *((f"input amount {amount!r}", first_input(amount=amount), 11006) for amount in AMOUNTS),
    *((f"output amount {amount!r}", first_output(amount=amount), 11006) for amount in AMOUNTS),
    (
        "sums that overflow",
        lambda b: (
            b
            | {
                "inputs": [b["inputs"][0] | {"secret": f"s{n}", "amount": 2**63} for n in range(4)],
                "outputs": [b["outputs"][0] | {"B_": point(), "amount": 2**63} for _ in range(4)],
            }
        ),
        11006,
    ),
    ("unknown keyset of an input", first_input(id=UNKNOWN), 12001),
    ("unknown keyset of an output", first_output(id=UNKNOWN), 12001),
    ("keyset id in upper case", lambda b: first_input(id=b["inputs"][0]["id"].upper())(b), 12001),
    ("short keyset id", lambda b: first_input(id=b["inputs"][0]["id"][:16])(b), 12001),
    ("keyset id like a path", first_output(id="../../etc/passwd"), 12001),
    ("keyset id a number", first_input(id=0), 12001),
    ("outputs worth more", first_output(amount=16), 11005),
    ("outputs worth less", first_output(amount=4), 11005),
    ("no inputs", lambda b: b | {"inputs": []}, 11005),
    ("no outputs", lambda b: b | {"outputs": []}, 11005),
    ("neither", lambda b: {"inputs": [], "outputs": []}, 11005),
    ("1,001 inputs", lambda b: b | {"inputs": b["inputs"] * 1_001}, 11014),
    ("1,001 outputs", lambda b: b | {"outputs": b["outputs"] * 1_001}, 11015),
    ("a secret of 1,025 bytes", first_input(secret="x" * 1_025), 10001),
    ("a secret of 1,025 bytes in 342 characters", first_input(secret="€" * 341 + "xx"), 10001),
    ("an empty secret", first_input(secret=""), 10001),
    ("NUL in a secret", first_input(secret="a\0b"), 10001),
    ("a witness of 1,025 bytes", first_input(witness="x" * 1_025), 10001),
    ("a witness of 1,025 bytes in 342 characters", first_input(witness="€" * 341 + "xx"), 10001),
    ("a witness that is a list", first_input(witness=["00"]), 10001),
    ("inputs an object", lambda b: b | {"inputs": {}}, 10000),
    ("outputs missing", lambda b: {"inputs": b["inputs"]}, 10000),
]


async def swap_body(desk: Desk) -> Body:
    [proof] = await desk.buy(8)
    return {"inputs": [proof], "outputs": desk.messages([output(8)])}


@pytest.mark.parametrize(("change", "code"), [row[1:] for row in SWAPS], ids=[row[0] for row in SWAPS])
async def test_a_swap_is_refused_and_does_no_harm(shared_desk: Desk, change: Change, code: int) -> None:
    body = await swap_body(shared_desk)
    changed = change(body)
    response = await shared_desk.http.post(SWAP, json=changed)
    answer = response.json()
    assert (response.status_code, answer["code"]) == (400, code)
    assert set(answer) == {"detail", "code"}
    assert len(response.content) < 400
    assert "etc/passwd" not in response.text
    assert UNKNOWN not in response.text
    assert await shared_desk.states(body["inputs"]) == ["UNSPENT"]
    assert await shared_desk.signed(body["outputs"]) == 0
    await shared_desk.done(SWAP, body)


RAW: list[tuple[str, bytes]] = [
    ("empty", b""),
    ("open list", b"["),
    ("null", b"null"),
    ("a number", b"1"),
    ("a text", b'"x"'),
    ("a list", b"[]"),
    ("not UTF-8", b'{"inputs": "\xff"}'),
    ("NaN", b'{"amount": NaN, "unit": "sat"}'),
    ("1e999", b'{"amount": 1e999, "quote": 1e999, "inputs": 1e999, "outputs": 1e999, "Ys": 1e999}'),
    ("deep", b"[" * 100_000),
    ("deep inside", b'{"inputs": ' + b'{"a":' * 50_000),
    ("trailing bytes", b'{"amount": 1, "unit": "sat"} x'),
    ("two values", b"{}{}"),
    ("a byte-order mark", b"\xef\xbb\xbf{}"),
    ("an empty object", b"{}"),
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", [row[1] for row in RAW], ids=[row[0] for row in RAW])
async def test_no_json_is_refused_everywhere(shared_desk: Desk, path: str, body: bytes) -> None:
    # A quote says first what is wrong with its amount.
    code = 11006 if (path, body) == (QUOTE, b"{}") else 10000
    response = await shared_desk.http.post(path, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert set(response.json()) == {"detail", "code"}
    assert response.json()["code"] == code
    assert len(response.content) < 400


@pytest.mark.parametrize("path", PATHS)
async def test_a_body_over_1_mib_is_refused_before_it_is_read(shared_desk: Desk, path: str) -> None:
    announced = await shared_desk.http.post(path, content=b"[" + b" " * (20 << 20))
    assert (announced.status_code, announced.json()["code"]) == (413, 10000)

    async def unannounced() -> Any:
        for _ in range(20):
            yield b" " * (1 << 17)

    streamed = await shared_desk.http.post(path, content=unannounced())
    assert (streamed.status_code, streamed.json()["code"]) == (413, 10000)


@pytest.mark.parametrize("length", ["-1", "1_000", "x", "9" * 30, "+5"])
async def test_a_length_that_is_none_is_refused(shared_desk: Desk, length: str) -> None:
    response = await shared_desk.http.post(SWAP, content=b"{}", headers={"content-length": length})
    assert (response.status_code, response.json()["code"]) == (400, 10000)


async def test_a_lone_surrogate_in_a_secret_or_witness_is_refused(shared_desk: Desk) -> None:
    body = await swap_body(shared_desk)
    for name, code in (("secret", 10000), ("witness", 10000)):
        marked = body | {"inputs": [body["inputs"][0] | {name: "MARK"}]}
        text = json.dumps(marked).replace("MARK", "\\ud800")
        assert await shared_desk.refused(SWAP, text.encode()) == code
    assert await shared_desk.states(body["inputs"]) == ["UNSPENT"]


LOCKS: list[tuple[str, Any]] = [
    ("P2PK", ["P2PK", {"nonce": "00", "data": point(), "tags": [["sigflag", "SIG_INPUTS"]]}]),
    ("P2PK without tags", ["P2PK", {"nonce": "00", "data": point()}]),
    ("P2PK with a broken tag", ["P2PK", {"nonce": "00", "data": point(), "tags": [[]]}]),
    ("HTLC", ["HTLC", {"nonce": "00", "data": "00" * 32, "tags": []}]),
]


@pytest.mark.parametrize("lock", [row[1] for row in LOCKS], ids=[row[0] for row in LOCKS])
async def test_what_is_locked_is_not_spent_without_its_condition(shared_desk: Desk, lock: Any) -> None:
    lock[1]["nonce"] = secrets.token_hex(16)
    proofs = await shared_desk.buy_outputs([locked_output(8, json.dumps(lock))])
    for witness in (None, '{"signatures": []}', '{"preimage": "00"}'):
        inputs = [proofs[0] | {"witness": witness}]
        body = {"inputs": inputs, "outputs": shared_desk.messages([output(8)])}
        assert await shared_desk.refused(SWAP, body) == 10001
    assert await shared_desk.states(proofs) == ["UNSPENT"]


async def test_text_that_only_looks_like_a_lock_is_an_ordinary_secret(shared_desk: Desk) -> None:
    for secret in ('["P2PK"]', '["P2PK", {}]', "[1, 2]", '{"P2PK": 1}'):
        proofs = await shared_desk.buy_outputs([locked_output(8, secret + " " + secrets.token_hex(4))])
        await shared_desk.done(SWAP, {"inputs": proofs, "outputs": shared_desk.messages([output(8)])})


async def test_spent_twice(shared_desk: Desk) -> None:
    body = await swap_body(shared_desk)
    await shared_desk.done(SWAP, body)
    again = body | {"outputs": shared_desk.messages([output(8)])}
    assert await shared_desk.refused(SWAP, again) == 11001
    assert await shared_desk.signed(again["outputs"]) == 0


async def test_one_spent_input_among_good_ones_spends_nothing(shared_desk: Desk) -> None:
    spent, *good = await shared_desk.buy(8, 4, 4)
    await shared_desk.done(SWAP, {"inputs": [spent], "outputs": shared_desk.messages([output(8)])})
    body = {"inputs": [good[0], spent, good[1]], "outputs": shared_desk.messages([output(16)])}
    assert await shared_desk.refused(SWAP, body) == 11001
    assert await shared_desk.states(good) == ["UNSPENT", "UNSPENT"]
    assert await shared_desk.signed(body["outputs"]) == 0


async def test_an_output_signed_before_is_refused_and_nothing_spent(shared_desk: Desk) -> None:
    [first, second] = await shared_desk.buy(8, 8)
    old, fresh = output(8), output(4)
    await shared_desk.done(SWAP, {"inputs": [first], "outputs": shared_desk.messages([old])})
    for outputs in ([old], [output(4), old, fresh]):
        amounts = {8: [8], 16: [4, 8, 4]}[sum(made.amount for made in outputs)]
        assert [made.amount for made in outputs] == amounts
        extra = await shared_desk.buy(8) if len(outputs) == 3 else []
        body = {"inputs": [second, *extra], "outputs": shared_desk.messages(outputs)}
        assert await shared_desk.refused(SWAP, body) == 11003
        assert await shared_desk.states([second, *extra]) == ["UNSPENT"] * (1 + len(extra))
    assert await shared_desk.signed(shared_desk.messages([fresh])) == 0


QUOTES: list[tuple[str, Any, int]] = [
    *((f"amount {amount!r}", {"amount": amount, "unit": "sat"}, 11006) for amount in ("8", 8.0, True, 0, -1, 2**64)),
    ("no amount", {"unit": "sat"}, 11006),
    ("more than is sold at once", {"amount": 100_001, "unit": "sat"}, 11006),
    ("another unit", {"amount": 8, "unit": "usd"}, 11013),
    ("the unit in upper case", {"amount": 8, "unit": "SAT"}, 11013),
    ("no unit", {"amount": 8}, 11013),
    ("a pubkey off the curve", {"amount": 8, "unit": "sat", "pubkey": OFF_CURVE}, 20009),
    ("an empty pubkey", {"amount": 8, "unit": "sat", "pubkey": ""}, 20009),
    ("a pubkey in upper case", {"amount": 8, "unit": "sat", "pubkey": upper(point())}, 20009),
    ("a pubkey of 32 bytes", {"amount": 8, "unit": "sat", "pubkey": "ab" * 32}, 20009),
    ("a pubkey uncompressed", {"amount": 8, "unit": "sat", "pubkey": uncompressed()}, 20009),
    ("a pubkey that is a number", {"amount": 8, "unit": "sat", "pubkey": 2}, 20009),
    ("a description of 640 bytes", {"amount": 8, "unit": "sat", "description": "x" * 640}, 10000),
    ("a description that is a list", {"amount": 8, "unit": "sat", "description": []}, 10000),
]


@pytest.mark.parametrize(("body", "code"), [row[1:] for row in QUOTES], ids=[row[0] for row in QUOTES])
async def test_a_quote_is_refused(shared_desk: Desk, body: Any, code: int) -> None:
    assert await shared_desk.refused(QUOTE, body) == code


QUOTE_IDS = ["x", "0" * 32, "A" * 32, "ü", "a" * 10_000, "%00", "' OR 1=1 --", "..%2f..%2fetc"]


@pytest.mark.parametrize("quote", QUOTE_IDS)
async def test_a_quote_that_nobody_was_given(shared_desk: Desk, quote: str) -> None:
    response = await shared_desk.http.get(f"{QUOTE}/{quote}")
    elsewhere = "%2f" in quote
    assert (response.status_code, response.json()["code"]) == ((404, 0) if elsewhere else (400, 20010))
    assert set(response.json()) == {"detail", "code"}
    assert len(response.content) < 400
    body = {"quote": quote, "outputs": shared_desk.messages([output(1)])}
    assert await shared_desk.refused(MINT, body) == 20010


Y = bdhke.hash_to_curve(b"anything").hex()
CHECKS: list[tuple[str, Any, int]] = [
    ("1,001 Ys", [Y] * 1_001, 11014),
    ("garbage", ["x"], 10000),
    ("a number", [1], 10000),
    ("short", [Y[:-2]], 10000),
    ("uncompressed", [uncompressed()], 10000),
    ("with a line feed", [Y + "\n"], 10000),
    ("a text", Y, 10000),
]


@pytest.mark.parametrize(("Ys", "code"), [row[1:] for row in CHECKS], ids=[row[0] for row in CHECKS])
async def test_a_state_check_is_refused(shared_desk: Desk, Ys: Any, code: int) -> None:
    assert await shared_desk.refused("/v1/checkstate", {"Ys": Ys}) == code


RESTORES: list[tuple[str, Change, int]] = [
    ("1,001 outputs", lambda b: [b] * 1_001, 11015),
    ("the same twice", lambda b: [b, b], 11008),
    ("B_ in upper case", lambda b: [b | {"B_": upper(b["B_"])}], 10001),
    ("B_ uncompressed", lambda b: [b | {"B_": uncompressed()}], 10001),
    ("an amount below 0", lambda b: [b | {"amount": -1}], 11006),
    ("a keyset id that is none", lambda b: [b | {"id": "x"}], 12001),
]


@pytest.mark.parametrize(("change", "code"), [row[1:] for row in RESTORES], ids=[row[0] for row in RESTORES])
async def test_a_restore_is_refused(shared_desk: Desk, change: Change, code: int) -> None:
    outputs = change(shared_desk.message(output(8)))
    assert await shared_desk.refused("/v1/restore", {"outputs": outputs}) == code


KEYSET_IDS = [UNKNOWN, "../../etc/passwd", "x", "%2e%2e%2fkeys", "a" * 5_000, "01AB", "0' OR 1=1"]


@pytest.mark.parametrize("keyset", KEYSET_IDS)
async def test_keys_of_a_keyset_that_is_none(shared_desk: Desk, keyset: str) -> None:
    response = await shared_desk.http.get(f"/v1/keys/{keyset.replace('..', '%2e%2e')}")
    assert (response.status_code, response.json()["code"]) == (400, 12001)
    assert keyset not in response.text


@pytest.mark.parametrize("path", ["/v1/melt", "/v1/melt/bolt11", "/v1/melt/quote/bolt11", "/v1/melt/quote/bolt11/x"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_stamps_are_not_bought_back(shared_desk: Desk, path: str, method: str) -> None:
    response = await shared_desk.http.request(method, path, json={"quote": "x", "inputs": []})
    assert (response.status_code, response.json()["code"]) == (404, 10000)
    assert response.json()["detail"].endswith("[melt-disabled]")


async def test_a_browser_may_read_answers_and_refusals(shared_desk: Desk) -> None:
    origin = {"origin": "https://wallet.example"}
    for response in (
        await shared_desk.http.get("/v1/info", headers=origin),
        await shared_desk.http.post(SWAP, json={}, headers=origin),
        await shared_desk.http.post(SWAP, content=b" " * (2 << 20), headers=origin),
        await shared_desk.http.get(f"{QUOTE}/nothing", headers=origin),
        await shared_desk.http.post("/v1/melt/bolt11", json={}, headers=origin),
    ):
        assert response.headers["access-control-allow-origin"] == "*"


async def test_a_stranger_header_changes_nothing(shared_desk: Desk) -> None:
    lies = {"x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "https", "forwarded": "for=1", "host": "evil"}
    plain, lied = (await shared_desk.http.get("/v1/keys")), (await shared_desk.http.get("/v1/keys", headers=lies))
    assert plain.content == lied.content
