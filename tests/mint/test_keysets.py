"""Several keysets: retired, expired, of another unit; what wallets are told of them."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pennypost.protocol import bdhke
from pennypost_migrations import upgrade
from pennypost_mint import keysets
from pennypost_mint.api import Keyring, Keyset
from pennypost_mint.keyring import derive_keyset, row_of
from pennypost_mint.runtime.database import database_url, open_database
from tests.mint.desk import MINT, SWAP, Body, Desk, desk_on, settings_for
from tests.support.stamps import output

SEED = bytes(range(32))
NOW = int(time.time())

ACTIVE = derive_keyset(SEED, 0, "sat", active=True, input_fee_ppk=0, final_expiry=None)
RETIRED = derive_keyset(SEED, 1, "sat", active=False, input_fee_ppk=0, final_expiry=NOW + 10_000)
EXPIRED = derive_keyset(SEED, 2, "sat", active=True, input_fee_ppk=0, final_expiry=NOW - 1)
OTHER = derive_keyset(SEED, 3, "usd", active=True, input_fee_ppk=0, final_expiry=None)
DEAR = derive_keyset(SEED, 4, "sat", active=True, input_fee_ppk=400, final_expiry=None)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    settings = settings_for(tmp_path)
    await upgrade(database_url("", tmp_path))
    database = open_database("", tmp_path)
    made = [ACTIVE, RETIRED, EXPIRED, OTHER, DEAR]
    for keyset in made:
        await database.write(keysets.add_on, row_of(keyset, NOW))
    async with desk_on(database, settings, Keyring(made, ACTIVE.keys[1])) as opened:
        yield opened
    await database.close()


def proof(keyset: Keyset, amount: int) -> Body:
    """A proof as the mint would have signed it."""
    secret = secrets.token_hex(32)
    C = bdhke.sign(keyset.secrets[amount], bdhke.hash_to_curve(secret.encode()))
    return {"amount": amount, "id": keyset.id, "secret": secret, "C": C.hex()}


def message(keyset: Keyset, amount: int) -> Body:
    return output(amount).message(keyset.id)


ROWS: list[tuple[str, list[tuple[Keyset, int]], list[tuple[Keyset, int]], int]] = [
    ("output of a retired keyset", [(ACTIVE, 8)], [(RETIRED, 8)], 12002),
    ("one output of a retired keyset", [(ACTIVE, 8)], [(ACTIVE, 4), (RETIRED, 4)], 12002),
    ("output of an expired keyset", [(ACTIVE, 8)], [(EXPIRED, 8)], 12003),
    ("input of an expired keyset", [(EXPIRED, 8)], [(ACTIVE, 8)], 12003),
    ("inputs of two units", [(ACTIVE, 4), (OTHER, 4)], [(ACTIVE, 8)], 11009),
    ("outputs of two units", [(ACTIVE, 8)], [(ACTIVE, 4), (OTHER, 4)], 11009),
    ("from one unit to another", [(ACTIVE, 8)], [(OTHER, 8)], 11010),
    ("without the fee", [(DEAR, 8)], [(ACTIVE, 8)], 11005),
    ("the fee of one for three", [(DEAR, 2)] * 3, [(ACTIVE, 4), (ACTIVE, 1)], 11005),
    ("signed by another keyset", [(RETIRED, 8)], [(ACTIVE, 8)], 200),
    ("with the fee", [(DEAR, 8)], [(ACTIVE, 4), (ACTIVE, 2), (ACTIVE, 1)], 200),
    ("three at 400 make 2", [(DEAR, 2)] * 3, [(ACTIVE, 4)], 200),
    ("to the dear keyset", [(ACTIVE, 8)], [(DEAR, 8)], 200),
    ("within another unit", [(OTHER, 8)], [(OTHER, 8)], 200),
]


@pytest.mark.parametrize(("inputs", "outputs", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
async def test_swap_between_keysets(
    desk: Desk, inputs: list[tuple[Keyset, int]], outputs: list[tuple[Keyset, int]], expected: int
) -> None:
    given = [proof(*each) for each in inputs]
    status, answer = await desk.ask(SWAP, {"inputs": given, "outputs": [message(*each) for each in outputs]})
    assert answer.get("code", status) == expected
    assert set(await desk.states(given)) == {"SPENT" if expected == 200 else "UNSPENT"}


async def test_the_key_of_another_keyset_is_no_key(desk: Desk) -> None:
    forged = proof(RETIRED, 8) | {"id": ACTIVE.id}
    assert await desk.refused(SWAP, {"inputs": [forged], "outputs": [message(ACTIVE, 8)]}) == 10001


@pytest.mark.parametrize(("keyset", "code"), [(RETIRED, 12002), (EXPIRED, 12003), (OTHER, 11010)])
async def test_minting_to_such_a_keyset_leaves_the_quote_mintable(desk: Desk, keyset: Keyset, code: int) -> None:
    quote = await desk.paid_quote(8)
    assert await desk.refused(MINT, {"quote": quote["quote"], "outputs": [message(keyset, 8)]}) == code
    await desk.done(MINT, {"quote": quote["quote"], "outputs": [message(ACTIVE, 8)]})


async def test_a_signature_of_a_retired_keyset_is_restored(desk: Desk) -> None:
    made = output(8)
    await desk.done(SWAP, {"inputs": [proof(ACTIVE, 8)], "outputs": [made.message(DEAR.id)]})
    answer = await desk.done("/v1/restore", {"outputs": [made.message(ACTIVE.id)]})
    assert [(found["id"], found["amount"]) for found in answer["signatures"]] == [(DEAR.id, 8)]
    assert [(found["id"], found["amount"]) for found in answer["outputs"]] == [(DEAR.id, 8)]


async def test_what_wallets_are_told(desk: Desk) -> None:
    keys = (await desk.http.get("/v1/keys")).json()["keysets"]
    assert [each["id"] for each in keys] == [ACTIVE.id, EXPIRED.id, OTHER.id, DEAR.id]
    assert keys[0]["keys"]["1"] == ACTIVE.keys[1].hex()
    assert list(keys[0]["keys"]) == [str(1 << n) for n in range(32)]
    sets = (await desk.http.get("/v1/keysets")).json()["keysets"]
    assert sets[1] == {
        "id": RETIRED.id,
        "unit": "sat",
        "active": False,
        "input_fee_ppk": 0,
        "final_expiry": NOW + 10_000,
    }
    assert [each["active"] for each in sets] == [True, False, True, True, True]
    [one] = (await desk.http.get(f"/v1/keys/{RETIRED.id}")).json()["keysets"]
    assert (one["id"], one["active"], len(one["keys"])) == (RETIRED.id, False, 32)
