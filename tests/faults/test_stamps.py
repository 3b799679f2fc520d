"""Stamps that no wallet makes, written byte by byte: refused by their code, nothing stored, nothing taken."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from collections.abc import Callable
from typing import Any

import cbor2
import httpx
import pytest
import pytest_asyncio

from tests.postoffice.house import House, open_house
from tests.support.relay import letter, plain
from tests.support.stamps import Stamp, token_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

GENERATOR = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
OFF_CURVE = "02" + "00" * 31 + "05"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory):
    async with open_house(tmp_path_factory.mktemp("office")) as opened:
        yield opened


def _b(data: bytes) -> str:
    return "cashuB" + base64.urlsafe_b64encode(data).decode().rstrip("=")


def _proof(house: House, **changed: Any) -> dict[str, Any]:
    made = house.purse.proof()
    return {"a": 1, "s": made.secret, "c": bytes.fromhex(made.C)} | changed


def _token(house: House, *proofs: dict[str, Any], keyset: bytes | None = None, **changed: Any) -> str:
    keyset = bytes.fromhex(house.purse.keyring.active().id) if keyset is None else keyset
    groups = [{"i": keyset, "p": list(proofs)}]
    return _b(cbor2.dumps({"m": house.url, "u": "sat", "t": groups} | changed))


def _json(house: House, *mints: str, **changed: Any) -> str:
    made = house.purse.proof()
    proof = {"amount": 1, "id": made.id, "secret": made.secret, "C": made.C} | changed
    entries = [{"mint": mint, "proofs": [proof]} for mint in mints or (house.url,)]
    return "cashuA" + base64.urlsafe_b64encode(json.dumps({"token": entries, "unit": "sat"}).encode()).decode()


AMOUNTS = (0, -1, 1 << 64, 10**40, True, 1.0, "1", None)

CASES: list[tuple[str, Callable[[House], str], str]] = [
    *(
        (f"cashuB amount {amount!r:.12}", lambda h, a=amount: _token(h, _proof(h, a=a)), "stamp-malformed")
        for amount in AMOUNTS
    ),
    *(
        (f"cashuA amount {amount!r:.12}", lambda h, a=amount: _json(h, amount=a), "stamp-malformed")
        for amount in AMOUNTS
    ),
    ("amount that is no power of two", lambda h: _token(h, _proof(h, a=3)), "stamp-malformed"),
    (
        "3,000 proofs",
        lambda h: _token(h, *[{"a": 1, "s": str(n), "c": b"\2" * 33} for n in range(3_000)]),
        "stamp-malformed",
    ),
    ("no proof", lambda h: _token(h), "stamp-malformed"),
    ("deep arrays", lambda h: _b(b"\x81" * 50_000), "stamp-malformed"),
    ("deep arrays in an unknown field", lambda h: _b(b"\xa1\x61x" + b"\x81" * 50_000), "stamp-malformed"),
    ("an array of 2^32 by its head", lambda h: _b(b"\xa1\x61t\x9a\xff\xff\xff\xff"), "stamp-malformed"),
    ("a text of 2^63 bytes by its head", lambda h: _b(b"\xa1\x61m\x7b\x7f" + b"\xff" * 7), "stamp-malformed"),
    ("a map that never ends", lambda h: _b(b"\xbf" + b"\x61m\x60" * 100), "stamp-malformed"),
    ("a bignum", lambda h: _token(h, _proof(h, a=cbor2.CBORTag(2, b"\1" * 500))), "stamp-malformed"),
    ("a shared reference", lambda h: _b(b"\xd8\x1c\x81\xd8\x1d\x00"), "stamp-malformed"),
    ("bytes after its end", lambda h: _b(cbor2.dumps({"m": h.url, "u": "sat", "t": []}) + b"\0"), "stamp-malformed"),
    ("two mints", lambda h: _json(h, h.url, "https://elsewhere.example"), "stamp-malformed"),
    ("unknown keyset", lambda h: _token(h, _proof(h), keyset=b"\1" + secrets.token_bytes(32)), "stamp-keyset"),
    ("keyset id of one byte", lambda h: _token(h, _proof(h), keyset=b"\1"), ""),
    ("keyset id in upper case", lambda h: _json(h, id=h.purse.keyring.active().id.upper()), ""),
    ("keyset id like a path", lambda h: _json(h, id="../../etc/passwd"), ""),
    ("C off the curve", lambda h: _token(h, _proof(h, c=bytes.fromhex(OFF_CURVE))), ""),
    ("C not compressed", lambda h: _token(h, _proof(h, c=b"\4" + b"\1" * 64)), "stamp-malformed"),
    ("C at infinity", lambda h: _token(h, _proof(h, c=b"\0")), "stamp-malformed"),
    ("C in upper case", lambda h: _json(h, C=GENERATOR.upper()), "stamp-malformed"),
    ("C a point of nobody's", lambda h: _token(h, _proof(h, c=bytes.fromhex(GENERATOR))), "stamp-forged"),
    ("a secret of 1,025 bytes", lambda h: _token(h, _proof(h, s="x" * 1_025)), "stamp-malformed"),
    ("a secret of 513 letters of two bytes", lambda h: _token(h, _proof(h, s="é" * 513)), "stamp-malformed"),
    ("a secret that is no UTF-8", lambda h: _token(h, _proof(h, s=b"\xff\xfe")), "stamp-malformed"),
    ("a lone surrogate", lambda h: _json(h, secret="\ud800"), "stamp-malformed"),
    ("loopback for a mint", lambda h: _token(h, _proof(h), m="http://127.0.0.1:22"), "stamp-mint"),
    ("a file for a mint", lambda h: _token(h, _proof(h), m="file:///etc/passwd"), ""),
    (
        "a mint's address of 100,000 letters",
        lambda h: _token(h, _proof(h), m="http://" + "a" * 100_000),
        "stamp-malformed",
    ),
]
"""Name, token, code; "" where several are right."""


@pytest.mark.parametrize(("name", "make", "code"), CASES, ids=[row[0] for row in CASES])
async def test_refused(house: House, name: str, make: Callable[[House], str], code: str) -> None:
    """With little work, by a code of the stamp; the same event is stored with a good stamp afterwards."""
    event = letter()
    token = make(house)
    async with house.relay() as relay:
        began = time.process_time()
        answer = await relay.post(event, token)
        assert time.process_time() - began < 5
        assert not answer.accepted and answer.code.startswith("stamp-") and code in ("", answer.code), answer
        assert answer.message.startswith("blocked: invalid stamp")
        assert not [leak for leak in ("passwd", "127.0.0.1", "Error", "Traceback") if leak in answer.message]
        assert await relay.fetch({"ids": [event.id]}) == []
        assert (await relay.post(event, house.purse.token())).accepted


@pytest.mark.parametrize(("name", "make", "code"), CASES, ids=[row[0] for row in CASES])
async def test_refused_over_http(house: House, name: str, make: Callable[[House], str], code: str) -> None:
    """400 and the same code; the event is not there."""
    event = letter()
    async with httpx.AsyncClient(base_url=house.url, trust_env=False, timeout=60) as http, house.relay() as relay:
        answer = await http.post("/v1/events", json=["EVENT", plain(event), make(house)])
        message = answer.json()["message"]
        assert (answer.status_code, answer.json()["accepted"]) == (400, False)
        assert message.startswith("blocked: invalid stamp") and message.endswith(f"{code}]")
        assert await relay.fetch({"ids": [event.id]}) == []


async def test_a_bad_dleq_is_not_read(house: House) -> None:
    """Whoever takes a stamp checks it with the mint's own key; what a sender says of it is dropped unread."""
    for dleq in ({"e": b"\0" * 32, "s": b"\1" * 32, "r": b"\2" * 32}, None):
        async with house.relay() as relay:
            assert (await relay.post(letter(), _token(house, _proof(house, d=dleq)))).accepted


async def test_a_flood_of_forged_stamps(house: House) -> None:
    """From one connection; a neighbour with a good stamp is served meanwhile."""
    forged = [house.purse.token(house.purse.proof(2, key_of=1)) for _ in range(400)]
    async with house.relay() as flood, house.relay() as neighbour:
        tasks = [asyncio.create_task(flood.post(letter(), token)) for token in forged]
        began = time.monotonic()
        await house.pay(neighbour, [letter() for _ in range(3)])
        assert time.monotonic() - began < 30
        assert {answer.code for answer in await asyncio.gather(*tasks)} == {"stamp-forged"}


async def test_one_good_of_two_stays_good(house: House) -> None:
    """A token with a spent stamp in it takes none of the others."""
    good, spent = (Stamp(house.url, house.purse.proof()) for _ in range(2))
    async with house.relay() as relay:
        assert (await relay.post(letter(), spent.token)).accepted
        assert (await relay.post(letter(), token_of(good, spent))).code == "stamp-spent"
        assert (await relay.post(letter(), token_of(spent, good))).code == "stamp-spent"
        assert await house.spent(good.proof) == [False]
        assert (await relay.post(letter(), good.token)).accepted
