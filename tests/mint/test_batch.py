"""Several quotes at once (NUT-29): all of them are checked, minted, or none."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from pennypost.protocol import nuts, secp
from pennypost.protocol.nuts import MAX_BATCH, BlindedMessage
from pennypost_mint.quotes import credit_on
from pennypost_mint.tables import mint_quotes
from tests.mint.desk import MINT, QUOTE, Body, Desk
from tests.support.stamps import output

pytestmark = pytest.mark.asyncio(loop_scope="module")

BATCH = f"{MINT}/batch"
CHECK = f"{QUOTE}/check"
UNKNOWN = "ab" * 16


@pytest.fixture
def desk(shared_desk: Desk) -> Desk:
    return shared_desk


class Lock:
    """A key that locks a quote (NUT-20)."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(31).rjust(32, b"\1")
        self.pubkey = secp.point(self._secret).hex()

    def sign(self, quote: Any, outputs: Sequence[Body], *, older: bool = False) -> str:
        messages = [BlindedMessage(**each) for each in outputs]
        return nuts.sign_quote(self._secret, quote["quote"], messages, secrets.token_bytes(32), older=older)


def ids(*quotes: Any) -> list[str]:
    return [quote["quote"] for quote in quotes]


async def test_quotes_are_checked_in_the_order_asked(desk: Desk) -> None:
    paid, unpaid = await desk.paid_quote(5), await desk.quote(3)
    assert await desk.done(CHECK, {"quotes": ids(unpaid, paid)}) == [unpaid, paid]
    assert await desk.done(CHECK, {"quotes": ids(paid)}) == [paid]
    assert await desk.done(CHECK, {"quotes": []}) == []


async def test_one_unknown_quote_spoils_the_check(desk: Desk) -> None:
    quote = await desk.quote(5)
    for unknown in (UNKNOWN, "known-1", UNKNOWN.upper()):
        assert await desk.refused(CHECK, {"quotes": [*ids(quote), unknown]}) == 20010


async def test_two_quotes_one_output(desk: Desk) -> None:
    """The published example: 5 and 3 sat for one output of 8."""
    a, b = await desk.paid_quote(5), await desk.paid_quote(3)
    made = output(8)
    body = {"quotes": ids(a, b), "quote_amounts": [5, 3], "outputs": desk.messages([made])}
    answer = await desk.done(BATCH, body)
    assert desk.proofs([made], answer["signatures"])[0]["amount"] == 8
    assert [each["state"] for each in await desk.done(CHECK, {"quotes": ids(a, b)})] == ["ISSUED", "ISSUED"]


async def test_without_amounts_each_quote_gives_what_it_was_made_for(desk: Desk) -> None:
    a, b = await desk.paid_quote(5), await desk.paid_quote(3)
    await desk.done(BATCH, {"quotes": ids(a, b), "outputs": desk.messages([output(4), output(4)])})
    assert {(await desk.state_of(quote))["state"] for quote in (a, b)} == {"ISSUED"}


async def test_in_parts(desk: Desk) -> None:
    a, b = await desk.paid_quote(5), await desk.paid_quote(3)
    body = {"quotes": ids(a, b), "quote_amounts": [3, 1], "outputs": desk.messages([output(4)])}
    await desk.done(BATCH, body)
    assert [(await desk.state_of(quote))["amount_issued"] for quote in (a, b)] == [3, 1]
    rest = {"quotes": ids(b, a), "quote_amounts": None, "outputs": desk.messages([output(4)])}
    await desk.done(BATCH, rest)
    assert [(await desk.state_of(quote))["amount_issued"] for quote in (a, b)] == [5, 3]


async def test_what_was_paid_beyond_is_issued_when_asked_for(desk: Desk) -> None:
    quote = await desk.quote(5)
    table = mint_quotes.c

    def overpay(connection: Any) -> int:
        found = mint_quotes.select().where(table.id == quote["quote"])
        return credit_on(connection, connection.execute(found).one().payment_hash, 9_000, 1)

    assert await desk.database.write(overpay) == 9
    await desk.done(BATCH, {"quotes": ids(quote), "outputs": desk.messages([output(4), output(1)])})
    left = {"quotes": ids(quote), "quote_amounts": [4], "outputs": desk.messages([output(4)])}
    await desk.done(BATCH, left)
    assert (await desk.state_of(quote))["amount_issued"] == 9


async def test_a_hundred_quotes(desk: Desk) -> None:
    quotes = [await desk.quote(1) for _ in range(MAX_BATCH)]
    await asyncio.gather(*(desk.database.write(_pay, quote["quote"]) for quote in quotes))
    await desk.done(BATCH, {"quotes": ids(*quotes), "outputs": desk.messages([output(64), output(32), output(4)])})
    checked = await desk.done(CHECK, {"quotes": ids(*quotes)})
    assert Counter(each["state"] for each in checked) == {"ISSUED": MAX_BATCH}


def _pay(connection: Any, quote_id: str) -> int:
    found = connection.execute(mint_quotes.select().where(mint_quotes.c.id == quote_id)).one()
    return credit_on(connection, found.payment_hash, 1_000 * found.amount, 1)


AMOUNTS = ([9, -1], [8, 0], ["5", 3], [7, True], [5.0, 3], [2**64 + 5, 3], [None, 8])
"""Where one is none: the sum of some is that of the outputs."""

REFUSED: list[tuple[str, dict[str, Any], int]] = [
    ("one unpaid", {"quotes": ("paid", "unpaid")}, 20001),
    ("one issued", {"quotes": ("paid", "issued")}, 20002),
    ("one unknown", {"quotes": ("paid", UNKNOWN)}, 20010),
    ("one that is no id", {"quotes": ("paid", "quote_id_b")}, 20010),
    ("one twice", {"quotes": ("paid", "paid")}, 11016),
    ("none", {"quotes": ()}, 10000),
    ("101", {"quotes": tuple(f"{number:032x}" for number in range(101)), "quote_amounts": None}, 11017),
    ("more from one than it has", {"quote_amounts": [6, 2]}, 11005),
    ("amounts above the outputs", {"quote_amounts": [5, 4]}, 11005),
    ("amounts for one alone", {"quote_amounts": [8]}, 10000),
    *((f"amounts {amounts!r:.20}", {"quote_amounts": amounts}, 11006) for amounts in AMOUNTS),
    ("outputs above the amounts", {"amounts": (8, 1), "quote_amounts": None}, 11005),
    ("outputs below the amounts", {"amounts": (4,), "quote_amounts": None}, 11005),
    ("a signature for an unlocked one", {"signatures": ["ab" * 64, None]}, 20008),
    ("signatures for one alone", {"signatures": [None]}, 20008),
    ("signatures for three", {"signatures": [None] * 3}, 20008),
]


@pytest.mark.parametrize(("changes", "code"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_a_batch_is_refused_and_nothing_is_issued(desk: Desk, changes: dict[str, Any], code: int) -> None:
    paid, other, unpaid, issued = [
        await desk.paid_quote(5),
        await desk.paid_quote(3),
        await desk.quote(3),
        await desk.paid_quote(3),
    ]
    await desk.done(MINT, {"quote": issued["quote"], "outputs": desk.messages([output(2), output(1)])})
    named = {"paid": paid, "other": other, "unpaid": unpaid, "issued": issued}
    changes = dict(changes)
    wanted = [named[each]["quote"] if each in named else each for each in changes.pop("quotes", ("paid", "other"))]
    outputs = desk.messages([output(amount) for amount in changes.pop("amounts", (8,))])
    body = {"quotes": wanted, "quote_amounts": [5, 3], "outputs": outputs} | changes
    assert await desk.refused(BATCH, body) == code
    assert await desk.signed(outputs) == 0
    assert [await desk.state_of(quote) for quote in (paid, other, unpaid)] == [paid, other, unpaid]
    await desk.done(BATCH, {"quotes": ids(paid, other), "outputs": desk.messages([output(8)])})


async def test_another_keyset_and_no_point(desk: Desk) -> None:
    a, b = await desk.paid_quote(5), await desk.paid_quote(3)
    good = desk.message(output(8))
    for bad, code in ((good | {"id": "01" + "cd" * 32}, 12001), (good | {"B_": "02" + "ff" * 32}, 10001)):
        assert await desk.refused(BATCH, {"quotes": ids(a, b), "outputs": [bad]}) == code
    assert [await desk.state_of(quote) for quote in (a, b)] == [a, b]


async def test_an_output_signed_before(desk: Desk) -> None:
    a, b, c = await desk.paid_quote(5), await desk.paid_quote(3), await desk.paid_quote(8)
    outputs = desk.messages([output(8)])
    await desk.done(MINT, {"quote": c["quote"], "outputs": outputs})
    assert await desk.refused(BATCH, {"quotes": ids(a, b), "outputs": outputs}) == 11003
    assert [await desk.state_of(quote) for quote in (a, b)] == [a, b]


@pytest.mark.parametrize("older", [False, True])
async def test_locked_and_unlocked_together(desk: Desk, older: bool) -> None:
    one, two = Lock(), Lock()
    a, b, c = (
        await desk.paid_quote(4, pubkey=one.pubkey),
        await desk.paid_quote(4),
        await desk.paid_quote(8, pubkey=two.pubkey),
    )
    outputs = desk.messages([output(8), output(8)])
    good_a, good_c = one.sign(a, outputs, older=older), two.sign(c, outputs, older=older)
    others = desk.messages([output(8), output(8)])
    wrong: list[Any] = [
        None,
        [None, None, None],
        [good_a, None, None],
        [None, None, good_c],
        [good_c, None, good_a],
        [good_a, good_a, good_c],
        [good_a, None, one.sign(c, outputs, older=older)],
        [good_a, None, two.sign(a, outputs, older=older)],
        [good_a, None, two.sign(c, others, older=older)],
        [good_a, None, two.sign(c, outputs[:1], older=older)],
        [good_a, None, two.sign(c, outputs[::-1], older=older)],
        [good_a, None, "00" * 64],
        [good_a, None, good_c.upper()],
    ]
    for signatures in wrong:
        body = {"quotes": ids(a, b, c), "outputs": outputs, "signatures": signatures}
        assert await desk.refused(BATCH, body) == 20008
    assert await desk.signed(outputs) == 0
    assert [await desk.state_of(quote) for quote in (a, b, c)] == [a, b, c]
    await desk.done(BATCH, {"quotes": ids(a, b, c), "outputs": outputs, "signatures": [good_a, None, good_c]})


async def test_the_same_batch_again(desk: Desk) -> None:
    a, b = await desk.paid_quote(5), await desk.paid_quote(3)
    outputs = [output(4), output(4)]
    body = json.dumps({"quotes": ids(a, b), "outputs": desk.messages(outputs)}).encode()
    first = await desk.done(BATCH, body)
    assert [await desk.done(BATCH, body) for _ in range(3)] == [first] * 3
    assert len(desk.proofs(outputs, first["signatures"])) == 2
    assert [(await desk.state_of(quote))["amount_issued"] for quote in (a, b)] == [5, 3]


async def test_the_same_batch_at_once(desk: Desk) -> None:
    a, b = await desk.paid_quote(5), await desk.paid_quote(3)
    body = json.dumps({"quotes": ids(a, b), "outputs": desk.messages([output(8)])}).encode()
    found = await asyncio.gather(*(desk.ask(BATCH, body) for _ in range(20)))
    assert all(each == found[0] for each in found)
    assert found[0][0] == 200


async def test_batches_that_share_quotes_at_once(desk: Desk) -> None:
    """Each in another order, so that locks taken as they come would meet crosswise."""
    quotes = [await desk.paid_quote(1) for _ in range(4)]
    wanted = [ids(*quotes), ids(*quotes[::-1]), ids(*quotes[2:], *quotes[:2]), *([each] for each in ids(*quotes))]
    bodies = [{"quotes": each, "outputs": desk.messages([output(len(each))])} for each in wanted * 5]
    found = await asyncio.gather(*(desk.ask(BATCH, body) for body in bodies))
    assert {(status, answer.get("code")) for status, answer in found} == {(200, None), (400, 20002)}
    issued = sum(answer["signatures"][0]["amount"] for status, answer in found if status == 200)
    assert issued == 4
    assert [(await desk.state_of(quote))["amount_issued"] for quote in quotes] == [1] * 4
