"""Stamps bought from a running mint by NUT-04, and bodies of swaps, made in processes of their own.

Works with our mint (play money that settles at once) and with Nutshell's (its FakeWallet pays by itself).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
import msgspec

from pennypost.protocol import bdhke
from pennypost.protocol.token import Proof, Token, encode_token
from tests.bench.processes import pool

PART = 1_000
"""Stamps of one purchase: the most outputs a mint takes."""
PAID_WITHIN = 60


@dataclass(frozen=True)
class Shop:
    """A mint's address, its active keyset of `sat` and the public key of 1 sat."""

    url: str
    keyset: str
    key: bytes


def visit(url: str) -> Shop:
    """Reads a mint's active keyset."""
    with _http(url) as http:
        active = {found["id"] for found in _get(http, "/v1/keysets")["keysets"] if found["active"]}
        for keyset in _get(http, "/v1/keys")["keysets"]:
            if keyset["unit"] == "sat" and keyset["id"] in active:
                return Shop(url, keyset["id"], bytes.fromhex(keyset["keys"]["1"]))
    raise RuntimeError("the mint has no active keyset of sat")


def buy(shop: Shop, count: int, part: int = PART) -> list[Proof]:
    """`count` stamps of 1 sat."""
    parts = [min(part, count - start) for start in range(0, count, part)]
    with pool() as processes:
        return [proof for bought in processes.map(_buy, [shop] * len(parts), parts) for proof in bought]


def tokens(shop: Shop, proofs: Sequence[Proof]) -> list[bytes]:
    """A cashuB token of each stamp."""
    return [encode_token(Token(shop.url, "sat", [proof], None)).encode() for proof in proofs]


def swap_bodies(shop: Shop, proofs: Sequence[Proof]) -> list[bytes]:
    """The JSON body of a swap of each stamp for a fresh one."""
    bodies: list[bytes] = []
    for proof in proofs:
        _, _, B_ = _output(0)
        inputs = [{"amount": proof.amount, "id": proof.id, "secret": proof.secret, "C": proof.C}]
        outputs = [{"amount": 1, "id": shop.keyset, "B_": B_.hex()}]
        bodies.append(msgspec.json.encode({"inputs": inputs, "outputs": outputs}))
    return bodies


def _http(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, trust_env=False, timeout=120)


def _get(http: httpx.Client, path: str) -> dict:
    response = http.get(path)
    response.raise_for_status()
    return response.json()


def _post(http: httpx.Client, path: str, body: object) -> dict:
    response = http.post(path, json=body)
    if response.status_code != 200:
        raise RuntimeError(f"{path}: {response.status_code} {response.text[:500]}")
    return response.json()


def _output(_number: int) -> tuple[str, bytes, bytes]:
    secret, r = secrets.token_hex(32), secrets.token_bytes(32)
    return secret, r, bdhke.blind(secret.encode(), r)


def _buy(shop: Shop, count: int) -> list[Proof]:
    with _http(shop.url) as http:
        quote = _post(http, "/v1/mint/quote/bolt11", {"amount": count, "unit": "sat"})["quote"]
        made = list(map(_output, range(count)))
        deadline = time.monotonic() + PAID_WITHIN
        while _get(http, f"/v1/mint/quote/bolt11/{quote}")["state"] != "PAID":
            if time.monotonic() > deadline:
                raise TimeoutError("the invoice was not settled")
            time.sleep(0.05)
        outputs = [{"amount": 1, "id": shop.keyset, "B_": B_.hex()} for _, _, B_ in made]
        answer = _post(http, "/v1/mint/bolt11", {"quote": quote, "outputs": outputs})
    return [
        Proof(
            amount=1,
            id=shop.keyset,
            secret=secret,
            C=bdhke.unblind(bytes.fromhex(signature["C_"]), r, shop.key).hex(),
        )
        for (secret, r, _), signature in zip(made, answer["signatures"], strict=True)
    ]
