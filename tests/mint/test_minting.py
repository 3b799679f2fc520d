"""Quotes and minting: the money, the locks, and requests at once."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import Counter
from typing import Any

import pytest

from pennypost.protocol import nuts, secp
from pennypost.protocol.nuts import BlindedMessage
from pennypost_mint import quotes
from pennypost_mint.minting import Commit, commit_on
from pennypost_mint.together import LATER
from tests.mint.desk import MINT, QUOTE, Body, Desk
from tests.support.stamps import output

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def desk(shared_desk: Desk) -> Desk:
    return shared_desk


async def test_a_quote_tells_what_wallets_ask_for(desk: Desk) -> None:
    quote = await desk.quote(10)
    assert re.fullmatch(r"[0-9a-f]{32}", quote["quote"])
    assert quote["request"].startswith("lnbcrt100n1")
    assert quote | {"quote": 0, "request": 0, "expiry": 0, "updated_at": 0} == {
        "quote": 0,
        "request": 0,
        "unit": "sat",
        "state": "UNPAID",
        "amount": 10,
        "expiry": 0,
        "pubkey": None,
        "method": "bolt11",
        "amount_paid": 0,
        "amount_issued": 0,
        "updated_at": 0,
    }
    assert await desk.state_of(quote) == quote


async def test_bought_and_issued(desk: Desk) -> None:
    quote = await desk.paid_quote(10)
    assert (quote["state"], quote["amount_paid"], quote["amount_issued"]) == ("PAID", 10, 0)
    outputs = [output(8), output(2)]
    answer = await desk.done(MINT, {"quote": quote["quote"], "outputs": desk.messages(outputs)})
    assert len(desk.proofs(outputs, answer["signatures"])) == 2
    quote = await desk.state_of(quote)
    assert (quote["state"], quote["amount_paid"], quote["amount_issued"]) == ("ISSUED", 10, 10)


async def test_unpaid(desk: Desk) -> None:
    quote = await desk.quote(8)
    body = {"quote": quote["quote"], "outputs": desk.messages([output(8)])}
    assert await desk.refused(MINT, body) == 20001
    assert await desk.signed(body["outputs"]) == 0


async def test_issued_twice(desk: Desk) -> None:
    quote = await desk.paid_quote(8)
    first = {"quote": quote["quote"], "outputs": desk.messages([output(8)])}
    await desk.done(MINT, first)
    second = first | {"outputs": desk.messages([output(8)])}
    assert await desk.refused(MINT, second) == 20002
    assert await desk.signed(second["outputs"]) == 0


REFUSED_BUT_ALIVE: list[tuple[str, Any, int]] = [
    ("too much", lambda desk: desk.messages([output(8), output(1)]), 11005),
    ("far too much", lambda desk: desk.messages([output(2**31)]), 11005),
    ("nothing", lambda desk: [], 11005),
    ("an amount that is none", lambda desk: [desk.message(output(8)) | {"amount": 3}], 11006),
    ("an unknown keyset", lambda desk: [desk.message(output(8), "01" + "cd" * 32)], 12001),
    ("no point", lambda desk: [desk.message(output(8)) | {"B_": "02" + "ff" * 32}], 10001),
    ("one output twice", lambda desk: desk.messages([output(4)]) * 2, 11008),
    ("1,001 outputs", lambda desk: desk.messages([output(1)]) * 1_001, 11015),
]


@pytest.mark.parametrize(
    ("build", "code"), [row[1:] for row in REFUSED_BUT_ALIVE], ids=[r[0] for r in REFUSED_BUT_ALIVE]
)
async def test_a_refused_request_leaves_the_quote_mintable(desk: Desk, build: Any, code: int) -> None:
    quote = await desk.paid_quote(8)
    assert await desk.refused(MINT, {"quote": quote["quote"], "outputs": build(desk)}) == code
    assert await desk.state_of(quote) == quote
    await desk.done(MINT, {"quote": quote["quote"], "outputs": desk.messages([output(8)])})


async def test_an_output_signed_before_leaves_the_quote_mintable(desk: Desk) -> None:
    made = output(8)
    await desk.buy_outputs([made])
    quote = await desk.paid_quote(8)
    assert await desk.refused(MINT, {"quote": quote["quote"], "outputs": desk.messages([made])}) == 11003
    assert await desk.state_of(quote) == quote


async def test_a_quote_is_minted_in_parts_while_money_lasts(desk: Desk) -> None:
    quote = await desk.paid_quote(8)
    for issued in (4, 6, 8):
        part = output(4 if issued == 4 else 2)
        await desk.done(MINT, {"quote": quote["quote"], "outputs": desk.messages([part])})
        now = await desk.state_of(quote)
        assert (now["amount_issued"], now["state"]) == (issued, "ISSUED" if issued == 8 else "PAID")
    assert await desk.refused(MINT, {"quote": quote["quote"], "outputs": desk.messages([output(1)])}) == 20002


async def test_twenty_different_requests_at_once_issue_once(desk: Desk) -> None:
    quote = await desk.paid_quote(8)
    bodies = [{"quote": quote["quote"], "outputs": desk.messages([output(8)])} for _ in range(20)]
    answers = await asyncio.gather(*(desk.ask(MINT, body) for body in bodies))
    assert Counter((status, answer.get("code")) for status, answer in answers) == {(200, None): 1, (400, 20002): 19}
    assert await desk.signed([body["outputs"][0] for body in bodies]) == 1


async def test_the_same_request_at_once_issues_once_and_answers_all_alike(desk: Desk) -> None:
    for amount, paid in ((8, 8), (2, 16)):
        quote = await desk.paid_quote(paid)
        body = {"quote": quote["quote"], "outputs": desk.messages([output(amount)])}
        answers = await asyncio.gather(*(desk.ask(MINT, body) for _ in range(20)))
        assert {status for status, _ in answers} == {200}
        assert all(answer == answers[0][1] for _, answer in answers)
        assert (await desk.state_of(quote))["amount_issued"] == amount


async def test_parts_at_once_never_exceed_what_was_paid(desk: Desk) -> None:
    quote = await desk.paid_quote(8)
    bodies = [{"quote": quote["quote"], "outputs": desk.messages([output(2)])} for _ in range(20)]
    answers = await asyncio.gather(*(desk.ask(MINT, body) for body in bodies))
    assert Counter((status, answer.get("code")) for status, answer in answers) == {(200, None): 4, (400, 20002): 16}


async def test_one_batch_of_everything(desk: Desk) -> None:
    """Requests that share a transaction: each gets its own outcome, whatever the others are."""
    paid = {name: (await desk.paid_quote(10))["quote"] for name in "abcd"}
    paid["unpaid"], paid["absent"] = (await desk.quote(10))["quote"], "0" * 32

    def commit(request: str, taken: str, amount: int, bs: str) -> Commit:
        rows = [(key(b), 0, 1, key("C" + b), key("e", 32), key("s", 32), 1) for b in bs]
        named = [(paid[name], amount) for name in taken.split()]
        return Commit(key(request, 32), 10**10, named, rows, [key(b) for b in bs], 1_800_000_000)

    earlier = [commit("before", "a", 1, "xy"), commit("older", "b", 1, "z")]
    assert await desk.database.write(commit_on, earlier) == [[], []]
    batch = [
        commit("good", "a", 4, "b"),
        commit("before", "d", 1, "xy"),
        commit("signed", "b", 4, "cz"),
        commit("too much", "c", 11, "e"),
        commit("not paid", "unpaid", 1, "f"),
        commit("no such quote", "absent", 1, "g"),
        commit("the same quote", "a", 4, "h"),
        commit("the output that was given back", "c", 1, "c"),
        commit("good", "a", 4, "b"),
        commit("before", "d", 1, "xy"),
    ]
    outcomes: list[Any] = await desk.database.write(commit_on, batch)
    assert [type(each).__name__ for each in outcomes] == [
        "list",
        "list",
        "OutputSigned",
        "Unbalanced",
        "QuoteUnpaid",
        "QuoteUnknown",
        "Later",
        "Later",
        "Later",
        "list",
    ]
    assert outcomes[0] == [] and outcomes[1] == outcomes[9]
    assert [made.c for _, _, made in outcomes[1]] == [key("Cx"), key("Cy")]
    assert await desk.database.write(commit_on, [batch[6], batch[7], batch[8]]) == [[], [], LATER]
    [again] = await desk.database.write(commit_on, [batch[8]])
    assert isinstance(again, list) and [made.c for _, _, made in again] == [key("Cb")]
    held = await desk.database.write(quotes.hold_on, paid.values())
    assert {name: held[each].amount_issued for name, each in paid.items() if each in held} == {
        "a": 9,
        "b": 1,
        "c": 1,
        "d": 0,
        "unpaid": 0,
    }


async def test_quotes_of_one_request_are_taken_from_together_or_not_at_all(desk: Desk) -> None:
    first, second = [(await desk.paid_quote(2))["quote"] for _ in range(2)]
    rows = [(key("both"), 0, 1, key("C"), key("e", 32), key("s", 32), 1)]
    for amounts, code, issued in (((1, 3), "Unbalanced", (0, 0)), ((1, 2), "list", (1, 2))):
        taken = list(zip((first, second), amounts, strict=True))
        commit = Commit(key("for both", 32), 10**10, taken, rows, [key("both")], 1_800_000_000)
        [outcome] = await desk.database.write(commit_on, [commit])
        held = await desk.database.write(quotes.hold_on, [first, second])
        assert (type(outcome).__name__, held[first].amount_issued, held[second].amount_issued) == (code, *issued)


async def test_many_random_requests_at_once_never_issue_more_than_was_paid(desk: Desk) -> None:
    names = [(await desk.paid_quote(8))["quote"] for _ in range(6)]
    chance = secrets.SystemRandom()

    async def ask(_number: int) -> tuple[str, int, int]:
        quote, amount = chance.choice(names), chance.choice((1, 2, 4, 8, 16))
        status, _ = await desk.ask(MINT, {"quote": quote, "outputs": desk.messages([output(amount)])})
        return quote, amount, status

    answers = await asyncio.gather(*map(ask, range(150)))
    held = await desk.database.write(quotes.hold_on, names)
    for name in names:
        issued = sum(amount for quote, amount, status in answers if (quote, status) == (name, 200))
        assert held[name].amount_issued == issued <= 8
        left = 8 - issued
        assert all(status == 400 for quote, amount, status in answers if quote == name and amount > 8)
        assert left < 1 or all(amount > left for quote, amount, status in answers if (quote, status) == (name, 400))


def key(name: str, size: int = 33) -> bytes:
    return name.encode().ljust(size, b".")


class Lock:
    """A quote's key, and requests signed with it."""

    def __init__(self) -> None:
        self.secret = secrets.token_bytes(32)
        self.pubkey = secp.point(self.secret).hex()

    def sign(self, quote: str, outputs: list[Body], *, older: bool = False) -> str:
        messages = [BlindedMessage(each["amount"], each["id"], each["B_"]) for each in outputs]
        return nuts.sign_quote(self.secret, quote, messages, bytes(32), older=older)


@pytest.mark.parametrize("older", [False, True])
async def test_a_locked_quote_opens_to_its_key_in_both_forms(desk: Desk, older: bool) -> None:
    lock = Lock()
    quote = await desk.paid_quote(8, pubkey=lock.pubkey)
    assert quote["pubkey"] == lock.pubkey
    outputs = desk.messages([output(8)])
    signature = lock.sign(quote["quote"], outputs, older=older)
    await desk.done(MINT, {"quote": quote["quote"], "outputs": outputs, "signature": signature})


async def test_a_locked_quote_opens_to_nothing_else(desk: Desk) -> None:
    lock, other = Lock(), Lock()
    quote = await desk.paid_quote(8, pubkey=lock.pubkey)
    outputs, others = desk.messages([output(8)]), desk.messages([output(8)])
    split = desk.messages([output(4), output(4)])
    good = lock.sign(quote["quote"], outputs)
    signatures = [
        None,
        "",
        "00",
        "zz" * 64,
        "ff" * 64,
        "00" * 64,
        good.upper() if good.upper() != good else "F" * 128,
        good[:-2],
        good + "00",
        1,
        other.sign(quote["quote"], outputs),
        lock.sign(quote["quote"], others),
        lock.sign(quote["quote"], []),
        lock.sign("0" * 32, outputs),
    ]
    for signature in signatures:
        body = {"quote": quote["quote"], "outputs": outputs, "signature": signature}
        assert await desk.refused(MINT, body) == 20008
    reordered = lock.sign(quote["quote"], split)
    body = {"quote": quote["quote"], "outputs": split[::-1], "signature": reordered}
    assert await desk.refused(MINT, body) == 20008
    assert await desk.refused(MINT, {"quote": quote["quote"], "outputs": outputs}) == 20008
    assert await desk.state_of(quote) == quote
    await desk.done(MINT, {"quote": quote["quote"], "outputs": outputs, "signature": good})


async def test_an_unlocked_quote_ignores_a_signature(desk: Desk) -> None:
    quote = await desk.paid_quote(8)
    outputs = desk.messages([output(8)])
    signature = Lock().sign(quote["quote"], outputs)
    await desk.done(MINT, {"quote": quote["quote"], "outputs": outputs, "signature": signature})


async def test_quote_ids_say_nothing_about_the_invoice(desk: Desk) -> None:
    quotes = [await desk.quote(1) for _ in range(20)]
    assert len({quote["quote"] for quote in quotes}) == 20
    assert not any(quote["quote"] in quote["request"] for quote in quotes)


async def test_a_description_is_the_invoices(desk: Desk) -> None:
    plain, described = await desk.quote(1), await desk.quote(1, description="ten stamps for Bob")
    assert len(described["request"]) > len(plain["request"])
    response = await desk.http.post(QUOTE, json={"amount": 1, "unit": "sat", "description": None, "pubkey": None})
    assert response.status_code == 200
