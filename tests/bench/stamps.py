"""Stamps bought from a running mint by NUT-04, and bodies of what is asked of it, made in processes of their own.

Works with our mint (play money that settles at once) and with Nutshell's (its FakeWallet pays by itself).
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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


class Bought(NamedTuple):
    """A stamp and the blinded message (hex) it was signed as."""

    proof: Proof
    B_: str


def buy(shop: Shop, count: int, part: int = PART) -> list[Bought]:
    """`count` stamps of 1 sat, `part` at once."""
    return _spread(_buy, shop, count, part)


def tokens(shop: Shop, bought: Sequence[Bought]) -> list[bytes]:
    """A cashuB token of each stamp."""
    return [encode_token(Token(shop.url, "sat", [each.proof], None)).encode() for each in bought]


def quote_bodies(count: int, amount: int = 1) -> list[bytes]:
    """Requests of quotes (NUT-23)."""
    return [msgspec.json.encode({"amount": amount, "unit": "sat"})] * count


def mint_bodies(shop: Shop, count: int, outputs: int) -> list[bytes]:
    """Mint requests of `outputs` stamps each (NUT-04) against quotes that are made and paid here."""
    return _spread(_mint_bodies, shop, count, 50, outputs)


def swap_bodies(shop: Shop, bought: Sequence[Bought], size: int) -> list[bytes]:
    """Swaps of `size` stamps each for as many fresh ones (NUT-03)."""
    return _spread(_swap_bodies, shop, len(bought) // size, 500, [each.proof for each in bought], size)


def check_bodies(count: int, size: int, spent: Sequence[Bought]) -> list[bytes]:
    """Look-ups of `size` Ys each (NUT-07): half of them of these stamps, half never seen."""
    known = [bdhke.hash_to_curve(each.proof.secret.encode()).hex() for each in spent[: 10 * size]]
    return [
        msgspec.json.encode(
            {
                "Ys": random.sample(known, size // 2)
                + [bdhke.hash_to_curve(secrets.token_bytes(32)).hex() for _ in range(size - size // 2)]
            }
        )
        for _ in range(count)
    ]


def restore_bodies(shop: Shop, count: int, size: int, bought: Sequence[Bought]) -> list[bytes]:
    """Restores of `size` outputs each (NUT-09), all of them signed before."""
    outputs = [{"amount": 1, "id": shop.keyset, "B_": each.B_} for each in bought]
    return [msgspec.json.encode({"outputs": random.sample(outputs, size)}) for _ in range(count)]


def _spread(work: Callable[..., list[Any]], shop: Shop, count: int, part: int, *more: Any) -> list[Any]:
    """`work(shop, count, …)` in parts on every core; of a list in `more` each part gets its share."""
    parts = [(start, min(part, count - start)) for start in range(0, count, part)]
    with pool() as processes:
        jobs = [
            processes.submit(work, shop, size, *(_share(each, start, size, count) for each in more))
            for start, size in parts
        ]
        return [made for job in jobs for made in job.result()]


def _share(value: Any, start: int, size: int, count: int) -> Any:
    if not isinstance(value, list):
        return value
    each = len(value) // count
    return value[start * each : (start + size) * each]


def _swap_bodies(shop: Shop, count: int, proofs: list[Proof], size: int) -> list[bytes]:
    bodies: list[bytes] = []
    for start in range(0, count * size, size):
        inputs = [
            {"amount": proof.amount, "id": proof.id, "secret": proof.secret, "C": proof.C}
            for proof in proofs[start : start + size]
        ]
        outputs = [_message(shop, _output()[2]) for _ in range(size)]
        bodies.append(msgspec.json.encode({"inputs": inputs, "outputs": outputs}))
    return bodies


def _mint_bodies(shop: Shop, count: int, size: int) -> list[bytes]:
    bodies: list[bytes] = []
    with _http(shop.url) as http:
        for quote in _paid_quotes(http, count, size):
            outputs = [_message(shop, _output()[2]) for _ in range(size)]
            bodies.append(msgspec.json.encode({"quote": quote, "outputs": outputs}))
    return bodies


def _message(shop: Shop, B_: bytes) -> dict[str, Any]:
    return {"amount": 1, "id": shop.keyset, "B_": B_.hex()}


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


def _output() -> tuple[str, bytes, bytes]:
    secret, r = secrets.token_hex(32), secrets.token_bytes(32)
    return secret, r, bdhke.blind(secret.encode(), r)


def _paid_quotes(http: httpx.Client, count: int, amount: int) -> list[str]:
    """Ids of quotes that are paid."""
    body = {"amount": amount, "unit": "sat"}
    quotes: list[str] = [_post(http, "/v1/mint/quote/bolt11", body)["quote"] for _ in range(count)]
    deadline = time.monotonic() + PAID_WITHIN
    for quote in quotes:
        while _get(http, f"/v1/mint/quote/bolt11/{quote}")["state"] != "PAID":
            if time.monotonic() > deadline:
                raise TimeoutError("the invoice was not settled")
            time.sleep(0.05)
    return quotes


def _buy(shop: Shop, count: int) -> list[Bought]:
    with _http(shop.url) as http:
        [quote] = _paid_quotes(http, 1, count)
        made = [_output() for _ in range(count)]
        outputs = [_message(shop, B_) for _, _, B_ in made]
        answer = _post(http, "/v1/mint/bolt11", {"quote": quote, "outputs": outputs})
    bought: list[Bought] = []
    for (secret, r, B_), signature in zip(made, answer["signatures"], strict=True):
        C = bdhke.unblind(bytes.fromhex(signature["C_"]), r, shop.key)
        bought.append(Bought(Proof(amount=1, id=shop.keyset, secret=secret, C=C.hex()), B_.hex()))
    return bought
