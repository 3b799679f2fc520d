"""Stamps locked to the office: nobody on the way can use them, and the office takes them without a signature."""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import Any

import httpx
import msgspec
import pytest

from pennypost.protocol import bdhke, secp
from pennypost.protocol.lock import Lock, lock_secret, witness_text
from pennypost.protocol.token import Proof
from tests.postoffice.house import Author, House, secret_key, wrap
from tests.support.relay import plain


async def published(house: House) -> str:
    """The key that the relay information names, as a lock names it."""
    async with httpx.AsyncClient(base_url=house.url, trust_env=False) as http:
        return "02" + (await http.get("/", headers={"accept": "application/nostr+json"})).json()["self"]


def locked(house: House, data: str, **more: Any) -> Proof:
    """A stamp that P2PK locks to this key."""
    return house.purse.proof(secret=lock_secret(Lock("P2PK", data, **more), secrets.token_bytes(32)))


async def test_locked_to_the_office(house: House) -> None:
    """With or without a witness, by WebSocket and HTTP, in both forms of the key; spent once."""
    key = await published(house)
    one, other, third = locked(house, key), locked(house, "03" + key[2:]), locked(house, key)
    witness = msgspec.structs.replace(third, witness=witness_text(["00" * 64], None))
    async with house.relay() as relay, httpx.AsyncClient(base_url=house.url, trust_env=False) as http:
        assert (await relay.post(wrap(), house.purse.token(one))).accepted
        header = {"x-cashu": house.purse.token(other)}
        assert (await http.post("/v1/events", json=plain(wrap()), headers=header)).status_code == 200
        assert (await relay.post(wrap(), house.purse.token(witness))).accepted
        assert (await relay.post(wrap(), house.purse.token(one))).code == "stamp-spent"
    assert await house.spent(one, other, third) == [True, True, True]


async def test_locked_otherwise(house: House) -> None:
    """To another key, or to ours with anything beside it: refused, untouched."""
    key, other = await published(house), "02" + Author().pubkey
    mint_key = house.purse.keyring.active().keys[1].hex()
    conditions = [
        locked(house, other),
        locked(house, mint_key),
        locked(house, key, pubkeys=(other,)),
        locked(house, key, locktime=1),
        locked(house, key, locktime=2**40, refund=(other,)),
        locked(house, key, sig_all=True),
    ]
    htlc = house.purse.proof(secret=lock_secret(Lock("HTLC", "00" * 32), secrets.token_bytes(32)))
    upper = house.purse.proof(secret='["P2PK",{"nonce":"' + "00" * 16 + '","data":"' + key.upper() + '","tags":[]}]')
    tagged = house.purse.proof(
        secret='["P2PK",{"nonce":"' + "00" * 16 + '","data":"' + key + '","tags":[["sigflag","SIG_INPUTS"]]}]'
    )
    async with house.relay() as relay:
        for proof in (*conditions, htlc, upper, tagged):
            answer = await relay.post(wrap(), house.purse.token(proof))
            assert (answer.accepted, answer.code) == (False, "stamp-locked"), proof.secret
            mixed = await relay.post(wrap(), house.purse.token(house.purse.proof(), proof))
            assert mixed.code == "stamp-locked"
    assert not any(await house.spent(*conditions, htlc, upper, tagged))


@pytest.mark.parametrize("signer", ["nobody", "a thief", "the office"])
async def test_the_mint_demands_the_signature(house: House, signer: str) -> None:
    """Who finds such a stamp on its way cannot swap it."""
    proof = locked(house, await published(house))
    keyset = house.purse.keyring.active()
    entry: dict[str, Any] = {"amount": 1, "id": keyset.id, "secret": proof.secret, "C": proof.C}
    if signer != "nobody":
        key = house.purse.keyring.derive("identity") if signer == "the office" else secret_key()
        message = sha256(proof.secret.encode()).digest()
        entry["witness"] = witness_text([secp.schnorr_sign(key, message, bytes(32)).hex()], None)
    B_ = bdhke.blind(secrets.token_hex(32).encode(), secrets.token_bytes(32))
    body = {"inputs": [entry], "outputs": [{"amount": 1, "id": keyset.id, "B_": B_.hex()}]}
    async with httpx.AsyncClient(base_url=house.url, trust_env=False) as http, house.relay() as relay:
        answer = await http.post("/v1/swap", json=body)
        if signer == "the office":
            assert answer.status_code == 200
        else:
            assert answer.status_code == 400 and answer.json()["code"] == 10001
            assert (await relay.post(wrap(), house.purse.token(proof))).accepted
    assert await house.spent(proof) == [True]
