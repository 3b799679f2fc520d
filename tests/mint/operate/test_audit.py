"""The books against the node's word: what one of them has and the other has not is said, and nothing is changed."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from pennypost.protocol.bolt11 import parse_invoice
from pennypost.protocol.errors import LightningUnavailable
from pennypost_mint.api import pay_play_invoice
from pennypost_mint.lightning import Progress, Receipt
from pennypost_mint.operate import audit as audits
from pennypost_mint.operate.audit import Audit, audit
from pennypost_mint.quotes import credit_on
from pennypost_mint.tables import mint_quotes
from pennypost_mint.till import AT_ONCE, GIVE_UP
from tests.mint.desk import MINT, Desk
from tests.support.stamps import output


class Node:
    """A node that says what the test says: msat by payment hash; None: it does not answer."""

    def __init__(self, desk: Desk) -> None:
        self._node = desk.mint.lightning
        self.says: dict[bytes, int | None] = {}

    async def look_up(self, payment_hash: bytes) -> Receipt:
        if payment_hash not in self.says:
            return await self._node.look_up(payment_hash)
        msat = self.says[payment_hash]
        if msat is None:
            raise LightningUnavailable
        return Receipt(payment_hash, Progress.SETTLED if msat else Progress.LOST, msat)


async def audited(desk: Desk, node: Node, since: int = 0) -> Audit:
    return await audit(desk.database, node, since, lambda done: None)  # type: ignore[arg-type]


def hash_of(quote: dict[str, str]) -> bytes:
    return parse_invoice(quote["request"]).payment_hash


# What the node says of a quote of 8 sat, and the books: credited, or not. Then sat settled, the difference, the fault.
SAID: list[tuple[str, int | None, bool, int, int, str]] = [
    ("the same", 8_000, True, 8, 0, ""),
    ("the same, and a part of a sat", 8_999, True, 8, 0, ""),
    ("never paid", 0, False, 0, 0, ""),
    ("paid, and not heard of", 8_000, False, 8, 8, "uncredited"),
    ("paid more than was heard of", 25_000, True, 25, 17, "uncredited"),
    ("nothing of what was credited", 0, True, 0, -8, "unknown"),
    ("too little", 7_999, False, 0, 0, "too_little"),
    ("too little of what was credited", 7_000, True, 7, -1, "unknown"),
    ("nothing at all", None, True, 0, 0, "no_answer"),
]


@pytest.mark.parametrize(
    ("msat", "paid", "settled", "difference", "fault"), [r[1:] for r in SAID], ids=[r[0] for r in SAID]
)
async def test_what_the_node_says(
    desk: Desk, msat: int | None, paid: bool, settled: int, difference: int, fault: str
) -> None:
    await desk.buy(4)
    quote = await (desk.paid_quote(8) if paid else desk.quote(8))
    node = Node(desk)
    node.says[hash_of(quote)] = msat
    found = await audited(desk, node)
    assert (found.asked, found.settled, found.difference) == (2, 4 + settled, difference)
    counts = {name: getattr(found, name) for name in ("uncredited", "unknown", "too_little", "no_answer")}
    assert counts == {name: (7 if name == "too_little" else 1) * (name == fault) for name in counts}
    assert bool(found.faults) is (fault in ("uncredited", "unknown"))
    expected = [{"payment_hash": hash_of(quote).hex(), "credited": 8 * paid, "settled": settled}]
    assert found.odd == (expected if found.faults else [])
    assert (await desk.state_of(quote))["amount_paid"] == 8 * paid


async def test_issued_and_lapsed_quotes_are_asked_about_too(desk: Desk) -> None:
    node = Node(desk)
    issued = await desk.paid_quote(8)
    await desk.done(MINT, {"quote": issued["quote"], "outputs": [output(8).message(desk.keyset)]})
    lapsed = await desk.quote(5)
    lapse = update(mint_quotes).where(mint_quotes.c.id == lapsed["quote"]).values(state="LAPSED")
    await desk.database.write(lambda connection: connection.execute(lapse))
    await pay_play_invoice(desk.database, lapsed["request"])
    found = await audited(desk, node)
    assert (found.asked, found.settled, found.credited, found.uncredited) == (2, 13, 8, 1)


async def test_what_is_credited_meanwhile_is_no_fault(desk: Desk) -> None:
    quote = await desk.quote(8)

    class Meanwhile(Node):
        async def look_up(self, payment_hash: bytes) -> Receipt:
            await desk.database.write(credit_on, payment_hash, 8_000, 0)
            return Receipt(payment_hash, Progress.SETTLED, 8_000)

    found = await audited(desk, Meanwhile(desk))
    assert (found.settled, found.credited, found.faults) == (8, 8, [])
    assert (await desk.state_of(quote))["amount_paid"] == 8


async def test_pages_since_a_day_and_a_node_that_falls_silent(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audits, "PAGE", 7)
    quotes = [await desk.quote(1) for _ in range(AT_ONCE * GIVE_UP + 3)]
    for number, quote in enumerate(quotes):
        move = update(mint_quotes).where(mint_quotes.c.id == quote["quote"]).values(created_at=1_000 + number)
        await desk.database.write(lambda connection, move=move: connection.execute(move))
    node = Node(desk)
    assert (await audited(desk, node)).asked == len(quotes)
    for since, expected in (
        (1_000 + len(quotes), 0),
        (999 + len(quotes), 1),
        (1_001, len(quotes) - 1),
        (0, len(quotes)),
    ):
        assert (await audited(desk, node, since)).asked == expected
    node.says = dict.fromkeys(map(hash_of, quotes), None)
    silent = await audited(desk, node)
    assert silent.asked == silent.no_answer < len(quotes)
