"""A wallet that remembers every request it made, byte for byte, and what it was answered: what a mint must keep.

buy ▶ issue, in parts ▶ trade …        the mint dies ▶ recover: every request again ▶ the books
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support.stamps import MintClient, Output, Stamp, output

QUOTE = "/v1/mint/quote/bolt11"
MINT = "/v1/mint/bolt11"
BATCH = "/v1/mint/bolt11/batch"
SWAP = "/v1/swap"
SIZES = (1, 1, 1, 2, 4, 8)


@dataclass
class Asked:
    """A request that signs; `answer` is None while the mint has not answered."""

    path: str
    body: bytes
    outputs: list[Output]
    takes: dict[str, int] = field(default_factory=dict)
    """What it takes from each quote, sat."""
    spends: list[Stamp] = field(default_factory=list)
    answer: list[Any] | None = None

    @property
    def sat(self) -> int:
        return sum(made.amount for made in self.outputs)


class Purse:
    """One wallet of one mint. Every method raises httpx.TransportError when the mint dies under it."""

    def __init__(self, mint: MintClient, chance: random.Random, http: httpx.AsyncClient) -> None:
        self._mint, self._chance, self._http = mint, chance, http
        self.asked: list[Asked] = []
        self.left: dict[str, int] = {}
        """What is paid and not issued, by quote."""
        self.stamps: list[Stamp] = []
        self.headers: dict[str, str] = {}
        """Sent with the next request that is not a look."""

    async def post(self, path: str, body: bytes) -> Any:
        """The answer, which must be good."""
        headers, self.headers = self.headers, {}
        response = await self._http.post(path, content=body, headers=headers)
        assert response.status_code == 200, (path, response.status_code, response.text)
        return response.json()

    async def quote(self, amount: int) -> str:
        """A quote, paid and credited."""
        body = json.dumps({"amount": amount, "unit": "sat"}).encode()
        quote = str((await self.post(QUOTE, body))["quote"])
        self.left[quote] = amount
        await self.paid(quote)
        return quote

    async def paid(self, quote: str) -> None:
        """Waits until the payment is credited; the quote was promised, so it must be there."""
        deadline = time.monotonic() + 60
        while True:
            response = await self._http.get(f"{QUOTE}/{quote}")
            assert response.status_code == 200, response.text
            if response.json()["state"] in ("PAID", "ISSUED"):
                return
            assert time.monotonic() < deadline, "a payment was not credited"
            await asyncio.sleep(0.01)

    async def issue(self, quote: str, amount: int) -> None:
        """NUT-04: part of a quote."""
        outputs = self._outputs(amount)
        await self._sign(Asked(MINT, self._body(outputs, quote=quote), outputs, takes={quote: amount}))

    async def issue_batch(self, takes: dict[str, int]) -> None:
        """NUT-29: parts of several quotes."""
        outputs = self._outputs(sum(takes.values()))
        body = self._body(outputs, quotes=list(takes), quote_amounts=list(takes.values()))
        await self._sign(Asked(BATCH, body, outputs, takes=takes))

    async def swap(self, stamps: Sequence[Stamp]) -> None:
        """NUT-03: stamps for others of the same worth."""
        spends = list(stamps)
        outputs = self._outputs(sum(stamp.proof.amount for stamp in spends))
        inputs = [
            {"amount": stamp.proof.amount, "id": stamp.proof.id, "secret": stamp.proof.secret, "C": stamp.proof.C}
            for stamp in spends
        ]
        self.stamps = [stamp for stamp in self.stamps if stamp not in spends]
        await self._sign(Asked(SWAP, self._body(outputs, inputs=inputs), outputs, spends=spends))

    async def anything(self) -> None:
        """Whatever can be done next, drawn by chance."""
        open_quotes = [quote for quote, left in self.left.items() if left]
        chance = self._chance.random()
        if not open_quotes or chance < 0.15:
            await self.quote(self._chance.randrange(1, 20))
        elif len(open_quotes) > 1 and chance < 0.4:
            await self.issue_batch({quote: self._part(quote) for quote in open_quotes[:5]})
        elif not self.stamps or chance < 0.6:
            quote = self._chance.choice(open_quotes)
            await self.issue(quote, self._part(quote))
        else:
            count = self._chance.randrange(1, min(len(self.stamps), 6) + 1)
            await self.swap(self._chance.sample(self.stamps, count))

    async def recover(self, asked: Sequence[Asked]) -> None:
        """After a restart: each was done whole or not at all, and its answer can be had again."""
        for quote in list(self.left):
            await self.paid(quote)
        for one in asked:
            restored = await self._mint.restore(one.outputs)
            assert len(restored) in (0, len(one.outputs)), "signed by half"
            if one.spends:
                states = set(await self._mint.states(one.spends))
                assert states == ({"SPENT"} if restored else {"UNSPENT"}), "a swap was done by half"
            assert restored or one.answer is None, "an answer was given that nothing stands behind"
            again = (await self.post(one.path, one.body))["signatures"]
            assert one.answer in (None, again), "the same request has another answer"
            assert not restored or self._opened(one.outputs, again) == restored
            if one.answer is None:
                self._answered(one, again)
            assert await self._mint.restore(one.outputs) == self._opened(one.outputs, again)

    def _part(self, quote: str) -> int:
        left = self.left[quote]
        return left if self._chance.random() < 0.3 else self._chance.randrange(1, left + 1)

    def _outputs(self, sat: int) -> list[Output]:
        made: list[Output] = []
        while sat:
            amount = max(size for size in SIZES[: self._chance.randrange(len(SIZES)) + 1] if size <= sat)
            made.append(output(amount))
            sat -= amount
        return made

    def _body(self, outputs: Sequence[Output], **more: Any) -> bytes:
        keyset = self._mint.active
        return json.dumps(more | {"outputs": [made.message(keyset) for made in outputs]}).encode()

    async def _sign(self, one: Asked) -> None:
        for quote, amount in one.takes.items():
            self.left[quote] -= amount
        self.asked.append(one)
        self._answered(one, (await self.post(one.path, one.body))["signatures"])

    def _answered(self, one: Asked, signatures: list[Any]) -> None:
        one.answer = signatures
        self.stamps += self._opened(one.outputs, signatures)

    def _opened(self, outputs: Sequence[Output], signatures: Sequence[Any]) -> list[Stamp]:
        return [
            self._mint.open(signature["id"], made, bytes.fromhex(signature["C_"]))
            for made, signature in zip(outputs, signatures, strict=True)
        ]


def expected(purses: Sequence[Purse]) -> tuple[int, int, dict[str, int]]:
    """What the books must say: sat issued, sat spent, and sat issued by quote."""
    asked = [one for purse in purses for one in purse.asked]
    by_quote: defaultdict[str, int] = defaultdict(int)
    for one in asked:
        for quote, amount in one.takes.items():
            by_quote[quote] += amount
    spent = sum(stamp.proof.amount for one in asked for stamp in one.spends)
    return sum(one.sat for one in asked), spent, dict(by_quote)
