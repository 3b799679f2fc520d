"""Stamps over plain HTTP: bought, swapped, looked up, without our wallet between test and mint."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from pennypost.protocol import bdhke
from pennypost.protocol.token import Proof, Token, encode_token

MOST_OUTPUTS = 1_000


@dataclass(frozen=True)
class Output:
    """A blinded message with what opens its signature."""

    amount: int
    secret: str
    r: bytes
    B_: bytes

    def message(self, keyset: str) -> dict[str, object]:
        """The NUT-00 BlindedMessage."""
        return {"amount": self.amount, "id": keyset, "B_": self.B_.hex()}


@dataclass(frozen=True)
class Stamp:
    """One proof, and the mint it is of."""

    mint: str
    proof: Proof

    @property
    def y(self) -> bytes:
        """What the mint keeps of it when it is spent (NUT-07)."""
        return bdhke.hash_to_curve(self.proof.secret.encode())

    @property
    def token(self) -> str:
        """The text that goes beside an event."""
        return token_of(self)


def token_of(*stamps: Stamp) -> str:
    """One cashuB token of several stamps."""
    return encode_token(Token(stamps[0].mint, "sat", [stamp.proof for stamp in stamps], None), version="B")


def output(amount: int = 1) -> Output:
    """A fresh blinded message; its randomness is the system's."""
    secret = secrets.token_hex(32)
    r = secrets.token_bytes(32)
    return Output(amount, secret, r, bdhke.blind(secret.encode(), r))


class MintClient:
    """What a wallet asks of a mint; every method raises httpx.HTTPStatusError when it refuses."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.AsyncClient(base_url=url, trust_env=False, timeout=60)
        self._keys: dict[str, dict[int, bytes]] = {}
        self._active = ""

    async def __aenter__(self) -> MintClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http.aclose()

    async def post(self, path: str, body: object) -> dict[str, object]:
        """POST as JSON: the answer."""
        response = await self._http.post(path, json=body)
        response.raise_for_status()
        return response.json()

    async def keyset(self) -> str:
        """The id of the active keyset; its keys are kept."""
        if not self._active:
            response = await self._http.get("/v1/keys")
            response.raise_for_status()
            for keyset in response.json()["keysets"]:
                self._keys[keyset["id"]] = {int(n): bytes.fromhex(key) for n, key in keyset["keys"].items()}
                self._active = keyset["id"]
        return self._active

    @property
    def active(self) -> str:
        """The id of the active keyset; after `keyset`."""
        assert self._active
        return self._active

    def open(self, keyset: str, output: Output, signature: bytes) -> Stamp:
        """The stamp in a blind signature."""
        key = self._keys[keyset][output.amount]
        C = bdhke.unblind(signature, output.r, key)
        return Stamp(self.url, Proof(amount=output.amount, id=keyset, secret=output.secret, C=C.hex()))

    async def buy(self, count: int) -> list[Stamp]:
        """Buys `count` stamps of 1 sat from a mint whose play money settles by itself."""
        stamps: list[Stamp] = []
        while len(stamps) < count:
            part = min(MOST_OUTPUTS, count - len(stamps))
            keyset = await self.keyset()
            quote = await self.post("/v1/mint/quote/bolt11", {"amount": part, "unit": "sat"})
            await self._paid(str(quote["quote"]))
            outputs = [output() for _ in range(part)]
            stamps += await self._signed("/v1/mint/bolt11", {"quote": quote["quote"]}, keyset, outputs)
        return stamps

    async def _paid(self, quote: str) -> None:
        deadline = time.monotonic() + 30
        while True:
            response = await self._http.get(f"/v1/mint/quote/bolt11/{quote}")
            response.raise_for_status()
            if response.json()["state"] == "PAID":
                return
            assert time.monotonic() < deadline, "the play-money invoice did not settle"
            await asyncio.sleep(0.02)

    async def _signed(self, path: str, body: dict[str, object], keyset: str, outputs: Sequence[Output]) -> list[Stamp]:
        answer = await self.post(path, body | {"outputs": [made.message(keyset) for made in outputs]})
        signatures = answer["signatures"]
        assert isinstance(signatures, list) and len(signatures) == len(outputs)
        return [
            self.open(keyset, made, bytes.fromhex(signature["C_"]))
            for made, signature in zip(outputs, signatures, strict=True)
        ]

    async def swap(self, stamps: Sequence[Stamp], outputs: Sequence[Output]) -> list[Stamp]:
        """NUT-03: `stamps` for `outputs` of the same total."""
        keyset = await self.keyset()
        inputs = [
            {"amount": stamp.proof.amount, "id": stamp.proof.id, "secret": stamp.proof.secret, "C": stamp.proof.C}
            for stamp in stamps
        ]
        return await self._signed("/v1/swap", {"inputs": inputs}, keyset, outputs)

    async def restore(self, outputs: Sequence[Output]) -> list[Stamp]:
        """NUT-09: the stamps of those `outputs` that the mint has signed."""
        keyset = await self.keyset()
        answer = await self.post("/v1/restore", {"outputs": [made.message(keyset) for made in outputs]})
        found, signatures = answer["outputs"], answer["signatures"]
        assert isinstance(found, list) and isinstance(signatures, list)
        known = {made.B_.hex(): made for made in outputs}
        return [
            self.open(keyset, known[message["B_"]], bytes.fromhex(signature["C_"]))
            for message, signature in zip(found, signatures, strict=True)
        ]

    async def states(self, stamps: Sequence[Stamp]) -> list[str]:
        """NUT-07: `UNSPENT` or `SPENT` of each."""
        states: list[str] = []
        for start in range(0, len(stamps), MOST_OUTPUTS):
            ys = [stamp.y.hex() for stamp in stamps[start : start + MOST_OUTPUTS]]
            answer = await self.post("/v1/checkstate", {"Ys": ys})
            listed = answer["states"]
            assert isinstance(listed, list)
            assert [entry["Y"] for entry in listed] == ys
            states += [entry["state"] for entry in listed]
        return states
