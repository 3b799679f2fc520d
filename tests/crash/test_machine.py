"""Random operations of a mint, through its HTTP face: whatever comes after whatever, the books balance.

    quote ─▶ pay: exactly, too little, too much, late, before the quote's row is there ─▶ issue in parts, in batches
    swap, spend twice, spend at once, wrong amounts, outputs signed before, old requests again
    restart, death between two steps of a request, rotation by another process, end of sales and their return

After each step: issued − spent = outstanding; Σ settled ≥ Σ issued; checkstate and restore say what the model says.
Death is that from one statement or commit on none reaches the database any more; then the mint is opened anew. What a
process loses besides, its memory and its connections, real kills take (`test_mint_kill.py`).
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, event, func, select
from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.exc import SQLAlchemyError

from pennypost_mint import till as tills
from pennypost_mint.lightning import Invoice, Progress, Receipt
from pennypost_mint.operate import rotation
from pennypost_mint.tables import mint_quotes, outputs, spent
from tests.mint.desk import MINT, QUOTE, SWAP, Desk, open_desk, settings_for
from tests.support.stamps import Output, output

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "20"))
EXAMPLES = {"sqlite": ROUNDS // 2, "postgresql": ROUNDS // 4}
STEPS = 50
BATCH = f"{MINT}/batch"
CHECK = f"{QUOTE}/check"
UNPAID, ISSUED, UNBALANCED, SPENT, SIGNED, INVALID = 20001, 20002, 11005, 11001, 11003, 10001
INACTIVE, CLOSED = 12002, 20003
MOST_KEYSETS = 4
STEPS_OF_A_REQUEST = 20
MANY = st.integers(0, 1_000)
"""Picks one of a list, by its remainder."""


class Node:
    """A node whose invoices are paid by the test; it outlives the mint."""

    till = "machine"
    play_money = False

    def __init__(self) -> None:
        self.received: dict[bytes, int] = {}
        """msat, by payment hash."""
        self.expiry = 3_600
        self.at_once = 0
        """msat that the next invoice receives before the mint hears of it."""

    async def create_invoice(self, amount: int, memo: str, expiry_seconds: int) -> Invoice:
        payment_hash = secrets.token_bytes(32)
        self.received[payment_hash], self.at_once = self.at_once, 0
        return Invoice(f"lnmachine{payment_hash.hex()}", payment_hash, int(time.time()) + self.expiry)

    async def look_up(self, payment_hash: bytes) -> Receipt:
        received = self.received.get(payment_hash)
        if not received:
            lost = received is None or self.expiry < 0
            return Receipt(payment_hash, Progress.LOST if lost else Progress.OPEN, 0)
        return Receipt(payment_hash, Progress.SETTLED, received)

    async def settled(self, after: int | None) -> AsyncIterator[Receipt]:
        while after == "never":
            yield Receipt(b"", Progress.OPEN, 0)

    async def check(self) -> None:
        return None

    async def close(self) -> None:
        return None


class Died(SQLAlchemyError):
    """What whoever waits for the database hears of a process that is gone."""


class Death:
    """Comes after so many statements and commits of this process; `dead` from then on, until it is called off."""

    def __init__(self) -> None:
        self.left = 0
        self.dead = False

    def comes(self, steps: int) -> None:
        self.left, self.dead = steps, False

    def step(self) -> None:
        if self.left:
            self.left -= 1
            self.dead = not self.left
        if self.dead:
            raise Died


@pytest.fixture
def death(monkeypatch: pytest.MonkeyPatch) -> Iterator[Death]:
    """Of whatever opens a database in this process."""
    death = Death()
    commit = DefaultDialect.do_commit

    def statement(_connection: Any, _cursor: Any, text: str, *_rest: Any) -> None:
        # what SQLAlchemy says when it gives up is no step of the mint's
        if not text.startswith(("ROLLBACK", "SAVEPOINT", "RELEASE")):
            death.step()

    def do_commit(self: Any, connection: Any) -> None:
        death.step()
        commit(self, connection)
        death.step()

    monkeypatch.setattr(DefaultDialect, "do_commit", do_commit)
    event.listen(Engine, "before_cursor_execute", statement)
    yield death
    event.remove(Engine, "before_cursor_execute", statement)


class Account:
    """What the model knows of a quote."""

    def __init__(self, quote: Any) -> None:
        self.id: str = quote["quote"]
        self.amount: int = quote["amount"]
        self.payment_hash = bytes.fromhex(quote["request"].removeprefix("lnmachine"))
        self.issued = 0


class Mint(RuleBasedStateMachine):
    """A mint, everything that was asked of it, and what must have become of that."""

    def __init__(self, address: Callable[[], str], drop: Callable[[str], None], death: Death) -> None:
        super().__init__()
        self.death = death
        self.keysets = 1
        self.selling = True
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="pennypost-machine-"))
        self.address, self.drop = address(), drop
        self.node = Node()
        self.quotes: list[Account] = []
        self.good: list[dict[str, Any]] = []
        self.used: list[dict[str, Any]] = []
        self.signed: list[Output] = []
        self.refused: list[Output] = []
        self.answered: list[tuple[str, bytes, Any]] = []

    @initialize()
    def opens(self) -> None:
        self.do(self._open())

    @rule()
    def restart(self) -> None:
        self._reopen()

    @precondition(lambda self: self.keysets < MOST_KEYSETS)
    @rule(told=st.booleans())
    def rotate(self, told: bool) -> None:
        """By another process; this one is told, or finds out by a request that names the new keyset."""
        old = self.desk.keyset
        new = self.do(rotation.rotate(self.desk.database, self.desk.settings, None)).id
        self.keysets += 1
        if told:
            self.do(self.desk.keyring.refresh())
        elif self.good:
            inputs, made = self.good[:1], _outputs(self.good[0]["amount"])
            outputs = [self.desk.message(each, new) for each in made]
            if self._ask(SWAP, {"inputs": inputs, "outputs": outputs}, made, 0):
                self._spend(inputs)
        else:
            listed = self.do(self.desk.http.get("/v1/keysets")).json()["keysets"]
            assert [each["id"] for each in listed if each["active"]] == [new]
        assert self.desk.keyset == new != old
        if self.good:
            # what was made for the old one is not signed any more, and the stamp stays good
            made = _outputs(self.good[0]["amount"])
            outputs = [self.desk.message(each, old) for each in made]
            assert self._refusal(SWAP, {"inputs": self.good[:1], "outputs": outputs}) == INACTIVE
            self.refused += made

    @rule()
    def sunset(self) -> None:
        """The end of sales, or their return: what was paid is given out under either."""
        self.selling = not self.selling
        self.do(rotation.sunset(self.desk.database, resume=self.selling))
        self.do(self.desk.keyring.refresh())

    @precondition(lambda self: self.good or any(self._mintable(account) > 0 for account in self.quotes))
    @rule(which=MANY, steps=st.integers(1, STEPS_OF_A_REQUEST))
    def dies(self, which: int, steps: int) -> None:
        """Between two steps of a swap or a mint: it was done whole or not at all, and its answer can be had again."""
        ready = [account for account in self.quotes if self._mintable(account) > 0]
        account = self._pick(ready, which) if ready and (which % 2 or not self.good) else None
        inputs = [] if account else self._several(self.good, which, 1 + which % 3)
        made = _outputs(self._mintable(account) if account else _sat(inputs))
        path = MINT if account else SWAP
        named = {"quote": account.id} if account else {"inputs": inputs}
        body = json.dumps(named | {"outputs": self.desk.messages(made)}).encode()
        messages = self.desk.messages(made)
        self.death.comes(steps)
        survived = self.do(_lived(self.desk, path, body))
        assert survived or self.death.dead
        self.death.comes(0)
        if not survived:
            self._reopen()
        signed = self.do(self.desk.signed(messages))
        assert signed in (0, len(made)) and (signed or not survived)
        if inputs:
            assert set(self.do(self.desk.states(inputs))) == {"SPENT" if signed else "UNSPENT"}
        answer = self.do(self.desk.done(path, body))
        self._took(path, body, made, answer)
        self._spend(inputs)
        if account:
            account.issued += _sat_of(made)

    @rule(amount=st.integers(1, 64), expired=st.booleans(), paid=st.sampled_from(["", "", "exact", "less", "more"]))
    def quote(self, amount: int, expired: bool, paid: str) -> None:
        """Now and then paid before its row is there."""
        if not self.selling:
            assert self._refusal(QUOTE, {"amount": amount, "unit": "sat"}) == CLOSED
            return
        self.node.expiry = -1 if expired else 3_600
        self.node.at_once = self._msat(amount, paid)
        self.quotes.append(Account(self.do(self.desk.done(QUOTE, {"amount": amount, "unit": "sat"}))))

    @precondition(lambda self: self.quotes)
    @rule(which=MANY, how=st.sampled_from(["exact", "less", "more"]))
    def pay(self, which: int, how: str) -> None:
        """Each invoice is paid once; what was too little is made good."""
        account = self._pick(self.quotes, which)
        before = self.node.received[account.payment_hash]
        if before < account.amount * 1_000:
            self.node.received[account.payment_hash] = max(before, self._msat(account.amount, how))

    @rule()
    def reconcile(self) -> None:
        self.do(self.desk.mint.till.reconcile())

    @precondition(lambda self: self.quotes)
    @rule(which=MANY, amount=st.integers(1, 80), whole=st.booleans())
    def issue(self, which: int, amount: int, whole: bool) -> None:
        account = self._pick(self.quotes, which)
        if whole:
            amount = self._mintable(account) or amount
        made = _outputs(amount)
        code = self._money(account, amount)
        if self._ask(MINT, {"quote": account.id, "outputs": self.desk.messages(made)}, made, code):
            account.issued += amount

    @precondition(lambda self: len(self.quotes) > 1)
    @rule(which=MANY, other=MANY, amounts=st.tuples(st.integers(1, 20), st.integers(1, 20)))
    def issue_batch(self, which: int, other: int, amounts: tuple[int, int]) -> None:
        accounts = [self._pick(self.quotes, which), self._pick(self.quotes, other)]
        if accounts[0] is accounts[1]:
            return
        made = _outputs(sum(amounts))
        codes = [self._money(account, amount) for account, amount in zip(accounts, amounts, strict=True)]
        body = {
            "quotes": [account.id for account in accounts],
            "quote_amounts": list(amounts),
            "outputs": self.desk.messages(made),
        }
        if self._ask(BATCH, body, made, next(filter(None, codes), 0)):
            for account, amount in zip(accounts, amounts, strict=True):
                account.issued += amount

    @precondition(lambda self: self.good)
    @rule(which=MANY, count=st.integers(1, 6), wrong=st.sampled_from([0, 0, 0, 1, -1, 7]))
    def swap(self, which: int, count: int, wrong: int) -> None:
        inputs = self._several(self.good, which, count)
        total = _sat(inputs)
        made = _outputs(max(total + wrong, 1))
        self._swap(inputs, made, 0 if sum(each.amount for each in made) == total else UNBALANCED)

    @precondition(lambda self: self.used)
    @rule(which=MANY, beside=st.booleans())
    def spend_again(self, which: int, beside: bool) -> None:
        """A spent stamp, alone or beside a good one, which stays good."""
        inputs = [self._pick(self.used, which)] + (self.good[:1] if beside else [])
        self._swap(inputs, _outputs(_sat(inputs)), SPENT)

    @precondition(lambda self: self.good)
    @rule(which=MANY, beside=st.booleans())
    def spend_at_once(self, which: int, beside: bool) -> None:
        """Two swaps of one stamp at the same time: one of them."""
        stamp = self._pick(self.good, which)
        others = [each for each in self.good if each is not stamp][:1] if beside else []
        first, second = [stamp], [stamp, *others]
        made = [_outputs(_sat(first)), _outputs(_sat(second))]
        bodies = [
            json.dumps({"inputs": inputs, "outputs": self.desk.messages(each)}).encode()
            for inputs, each in zip((first, second), made, strict=True)
        ]
        found = self.do(_together(self.desk, SWAP, bodies))
        assert sorted(status for status, _ in found) == [200, 400], found
        for inputs, each, body, (status, answer) in zip((first, second), made, bodies, found, strict=True):
            if status == 200:
                self._spend(inputs)
                self._took(SWAP, body, each, answer)
            else:
                assert answer["code"] == SPENT
                self.refused += each

    @precondition(lambda self: self.good)
    @rule(which=MANY)
    def wrong_amount(self, which: int) -> None:
        """Signed for one amount, named with another."""
        stamp = self._pick(self.good, which)
        inputs = [stamp | {"amount": stamp["amount"] * 2}]
        self._swap(inputs, _outputs(_sat(inputs)), INVALID)

    @precondition(lambda self: self.good and self.signed)
    @rule(which=MANY, old=MANY)
    def signed_before(self, which: int, old: int) -> None:
        """An output that was signed is not signed again, and its inputs stay good."""
        made = self._pick(self.signed, old)
        inputs = [stamp for stamp in self.good if stamp["amount"] == made.amount][:1]
        if inputs:
            answer = self._refusal(SWAP, {"inputs": inputs, "outputs": self.desk.messages([made])})
            assert answer == SIGNED

    @precondition(lambda self: self.answered)
    @rule(which=MANY)
    def again(self, which: int) -> None:
        """The same request again, however old."""
        path, body, answer = self._pick(self.answered, which)
        assert self.do(self.desk.done(path, body)) == answer

    @precondition(lambda self: self.quotes)
    @rule(which=MANY)
    def issue_at_once(self, which: int) -> None:
        """More than half of what a quote has left, twice at the same time: once."""
        account = self._pick(self.quotes, which)
        if not self._mintable(account):
            return
        amount = self._mintable(account) // 2 + 1
        made = [_outputs(amount), _outputs(amount)]
        bodies = [json.dumps({"quote": account.id, "outputs": self.desk.messages(each)}).encode() for each in made]
        found = self.do(_together(self.desk, MINT, bodies))
        assert sorted(status for status, _ in found) == [200, 400], found
        account.issued += amount
        for each, body, (status, answer) in zip(made, bodies, found, strict=True):
            if status == 200:
                self._took(MINT, body, each, answer)
            else:
                assert answer["code"] in (ISSUED, UNBALANCED)
                self.refused += each

    @precondition(lambda self: self.quotes)
    @rule()
    def look(self) -> None:
        """Every quote, after the node was asked."""
        found = self.do(self.desk.done(CHECK, {"quotes": [account.id for account in self.quotes[:100]]}))
        for account, each in zip(self.quotes, found, strict=False):
            paid = self._paid(account)
            assert (each["amount_paid"], each["amount_issued"]) == (paid, account.issued)
            assert each["state"] == ("UNPAID" if not paid else "ISSUED" if paid == account.issued else "PAID")

    @invariant()
    def the_books_balance(self) -> None:
        if not hasattr(self, "desk"):
            return
        issued, taken, paid, drawn, ledger = self.do(self.desk.database.read(_totals))
        sold = sum(account.issued for account in self.quotes)
        assert (issued, taken) == (sum(made.amount for made in self.signed), _sat(self.used))
        assert issued - taken == _sat(self.good) == sold == drawn
        assert drawn <= paid <= sum(self.node.received.values()) // 1_000
        # what nobody has looked at since it was paid is not credited yet
        assert all(ledger[each.id] in ((0, 0), (self._paid(each), each.issued)) for each in self.quotes)

    @invariant()
    def the_mint_says_so(self) -> None:
        if not hasattr(self, "desk"):
            return
        stamps = self.good + self.used
        states = self.do(self.desk.states(stamps)) if stamps else []
        assert states == ["UNSPENT"] * len(self.good) + ["SPENT"] * len(self.used)
        known = self.desk.messages(self.signed + self.refused)
        assert not known or self.do(self.desk.signed(known)) == len(self.signed)

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.do(self.stack.aclose())
        self.runner.close()
        self.drop(self.address)
        shutil.rmtree(self.folder)

    def do(self, work: Any) -> Any:
        return self.runner.run(work)

    def _reopen(self) -> None:
        self.do(self.stack.aclose())
        self.do(self._open())

    async def _open(self) -> None:
        self.stack = AsyncExitStack()
        chosen = settings_for(self.folder, self.address, rate_limit=0)
        self.desk: Desk = await self.stack.enter_async_context(open_desk(chosen, lightning=self.node))

    def _msat(self, amount: int, how: str) -> int:
        return {"": 0, "exact": amount, "less": amount - 1, "more": amount + 3}[how] * 1_000

    def _paid(self, account: Account) -> int:
        received = self.node.received[account.payment_hash] // 1_000
        return received if received >= account.amount else 0

    def _mintable(self, account: Account) -> int:
        return self._paid(account) - account.issued

    def _money(self, account: Account, amount: int) -> int:
        """The code that this quote and amount must be answered with; 0 for none."""
        if not self._paid(account):
            return UNPAID
        if not self._mintable(account):
            return ISSUED
        return UNBALANCED if amount > self._mintable(account) else 0

    def _pick(self, among: list[Any], which: int) -> Any:
        return among[which % len(among)]

    def _several(self, among: list[Any], which: int, count: int) -> list[Any]:
        start = which % len(among)
        return (among[start:] + among[:start])[:count]

    def _swap(self, inputs: list[dict[str, Any]], made: list[Output], code: int) -> None:
        if self._ask(SWAP, {"inputs": inputs, "outputs": self.desk.messages(made)}, made, code):
            self._spend(inputs)

    def _spend(self, inputs: list[dict[str, Any]]) -> None:
        self.good = [stamp for stamp in self.good if stamp not in inputs]
        self.used += inputs

    def _ask(self, path: str, body: dict[str, Any], made: list[Output], code: int) -> bool:
        """Whether it was done; it must be, unless `code` says what it is refused with."""
        if code:
            assert self._refusal(path, body) == code
            self.refused += made
            return False
        sent = json.dumps(body).encode()
        answer = self.do(self.desk.done(path, sent))
        self._took(path, sent, made, answer)
        return True

    def _took(self, path: str, body: bytes, made: list[Output], answer: Any) -> None:
        self.answered.append((path, body, answer))
        self.signed += made
        self.good += self.desk.proofs(made, answer["signatures"])

    def _refusal(self, path: str, body: dict[str, Any]) -> int:
        return self.do(self.desk.refused(path, body))


async def _together(desk: Desk, path: str, bodies: list[bytes]) -> list[tuple[int, Any]]:
    return list(await asyncio.gather(*(desk.ask(path, body) for body in bodies)))


def _sat(proofs: list[dict[str, Any]]) -> int:
    return sum(proof["amount"] for proof in proofs)


def _sat_of(made: list[Output]) -> int:
    return sum(each.amount for each in made)


async def _lived(desk: Desk, path: str, body: bytes) -> bool:
    """Whether a good request was answered; else the process died under it."""
    try:
        status, _ = await desk.ask(path, body)
    except Died:
        return False
    return status == 200


def _outputs(sat: int) -> list[Output]:
    return [output(1 << bit) for bit in range(sat.bit_length()) if sat >> bit & 1]


def _totals(connection: Connection) -> tuple[int, int, int, int, dict[str, tuple[int, int]]]:
    """Sat issued, spent, received by quotes, and issued against them; the last two of each quote."""

    def total(column: Any) -> int:
        return int(connection.scalar(select(func.coalesce(func.sum(column), 0))) or 0)

    c = mint_quotes.c
    ledger = {row[0]: (row[1], row[2]) for row in connection.execute(select(c.id, c.amount_paid, c.amount_issued))}
    paid, drawn = (sum(each[place] for each in ledger.values()) for place in (0, 1))
    return total(outputs.c.amount), total(spent.c.amount), paid, drawn, ledger


@pytest.mark.slow
@pytest.mark.timeout(120 + 10 * ROUNDS)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_whatever_comes_after_whatever(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, death: Death
) -> None:
    # a look at a quote always asks the node, so that what is paid is known at once
    monkeypatch.setattr(tills, "ASK_AGAIN", 0.0)
    address: Callable[[], str] = str
    drop: Callable[[str], None] = len  # type: ignore[assignment]
    if kind == "postgresql":
        cluster = request.getfixturevalue("postgres_cluster")
        address, drop = cluster.database, cluster.drop
    run_state_machine_as_test(
        lambda: Mint(address, drop, death),
        settings=settings(
            max_examples=EXAMPLES[kind],
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
