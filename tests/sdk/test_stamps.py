"""The wallet against a real mint: values, and every step at which it can be interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from pennypost import AsyncClient, Purchase, Sandbox, exchange, ledger, mint_client, orders, stamps
from pennypost.protocol.bdhke import hash_to_curve
from pennypost.protocol.errors import (
    InvalidInput,
    MintError,
    NotEnoughStamps,
    OtherMint,
    PaymentTimeout,
    ProofSpent,
    StampForged,
    StampLocked,
    StampMalformed,
    StampUnknownKeyset,
    StampWrongUnit,
)
from pennypost.protocol.token import Dleq, Proof, Token, encode_token, parse_token
from pennypost.transport import Response
from tests.sdk.deaths import WAYS, Way, dies
from tests.sdk.meddler import Meddler

Make = Callable[..., AsyncClient]
MOST_STEPS = 40


async def test_buy(client: Make) -> None:
    alice = client()
    shown: list[Purchase] = []
    bought = await alice.stamps.buy(100, on_invoice=shown.append)
    assert [(each.amount, each.state) for each in shown] == [(100, "unpaid")]
    assert (bought.amount, bought.state, bought.request) == (100, "issued", shown[0].request)
    assert await alice.stamps.balance() == 100
    proofs = await alice._store.run(ledger.proofs_on, alice.stamps.mint.url, "unspent")
    assert sorted(proof.amount for proof in proofs) == [1] * 64 + [4, 32]
    assert await alice.stamps.mint.states(proofs) == ["UNSPENT"] * 66


async def test_secrets_follow_from_the_seed(client: Make) -> None:
    alice = client()
    await alice.stamps.buy(3)
    exchange = alice.stamps._exchange
    keyset = await alice.stamps.mint.active(exchange.now())
    expected = {orders.derived_output(exchange.seed(), keyset.id, counter, 1).secret for counter in range(3)}
    proofs = await alice._store.run(ledger.proofs_on, alice.stamps.mint.url, "unspent")
    assert {proof.secret for proof in proofs} == expected


async def test_a_token_goes_over(client: Make) -> None:
    alice, bob = client(), client()
    await alice.stamps.buy(10)
    token = await alice.stamps.send(4, memo="for you")
    parsed = parse_token(token, keep_dleq=True)
    assert (parsed.amount, parsed.unit, parsed.memo) == (4, "sat", "for you")
    assert all(proof.dleq is None for proof in parsed.proofs)
    assert await bob.stamps.receive(f" cashu:{token}\n") == 4
    assert (await alice.stamps.balance(), await bob.stamps.balance()) == (6, 4)
    with pytest.raises(ProofSpent):
        await client().stamps.receive(token)
    check = await alice.stamps.check()
    assert (check.stamps, check.lost, check.recovered, check.tokens) == (6, 0, 0, ())


async def test_a_token_of_the_older_form_goes_over(client: Make) -> None:
    alice, bob = client(), client()
    await alice.stamps.buy(10)
    token = await alice.stamps.send(4, memo="for you", format="cashuA")
    assert token.startswith("cashuA")
    parsed = parse_token(token, keep_dleq=True)
    assert (parsed.amount, parsed.unit, parsed.memo) == (4, "sat", "for you")
    # Older wallets know no short ids, and the mint is shown no DLEQ.
    assert {len(proof.id) for proof in parsed.proofs} == {66}
    assert all(proof.dleq is None for proof in parsed.proofs)
    assert [each.token for each in (await alice.stamps.check()).tokens] == [token]
    assert await bob.stamps.receive(token) == 4


@pytest.mark.parametrize("options", [{"memo": "é" * 2_049}, {"memo": "\ud800"}, {"format": "cashuC"}])
async def test_what_no_token_can_carry_is_refused_before_a_stamp_is_taken(client: Make, options: Any) -> None:
    alice = client()
    await alice.stamps.buy(2)
    with pytest.raises(InvalidInput):
        await alice.stamps.send(1, **options)
    assert await alice.stamps.summary() == ledger.Balance(stamps=2)
    assert parse_token(await alice.stamps.send(1, memo="é" * 2_048)).amount == 1


async def test_a_stamp_in_use_is_nothing_that_its_sale_showed(office: Sandbox, client: Make) -> None:
    """All that one operator sees: what passes at the sale has no secret, Y or C of a stamp, as it does at its use."""
    passed: list[bytes] = []
    network = office.transport()
    ask = network.request

    async def request(method: str, url: str, **options: Any) -> Response:
        answer = await ask(method, url, **options)
        passed.extend((url.encode(), bytes(options.get("body", b"")), answer.body))
        return answer

    network.request = request
    alice = client(transport=network)
    await alice.stamps.buy(10)
    sale = b"".join(passed)
    token = await alice.stamps.send(2)
    proofs = parse_token(token).proofs
    marks = [each for proof in proofs for each in (proof.secret, proof.C, hash_to_curve(proof.secret.encode()).hex())]
    assert len(marks) == 6 and not [mark for mark in marks if mark.encode() in sale]
    # Nothing is found where nothing is looked at: the sale is in what passed, and the use shows what it must.
    assert b'"B_"' in sale and b'"C_"' in sale
    passed.clear()
    await alice.stamps.receive(token)
    assert any(marks[0].encode() in each for each in passed)


async def test_a_token_comes_back(client: Make) -> None:
    alice = client()
    await alice.stamps.buy(10)
    token = await alice.stamps.send(4)
    check = await alice.stamps.check()
    assert [(each.token, each.amount) for each in check.tokens] == [(token, 4)]
    assert await alice.stamps.receive(token) == 4
    assert (await alice.stamps.summary()) == ledger.Balance(stamps=10)
    assert (await alice.stamps.check()).tokens == ()


async def test_not_enough(client: Make) -> None:
    alice = client()
    with pytest.raises(NotEnoughStamps):
        await alice.stamps.send(1)
    await alice.stamps.buy(2)
    with pytest.raises(NotEnoughStamps):
        await alice.stamps.send(3)
    assert await alice.stamps.balance() == 2


@pytest.mark.parametrize("amount", [0, -1, 10**9])
async def test_amounts_that_are_none(client: Make, amount: int) -> None:
    for verb in (client().stamps.buy, client().stamps.send):
        with pytest.raises(InvalidInput):
            await verb(amount)


async def test_change_is_made_by_a_swap(client: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "READY", 0)
    alice, bob = client(), client()
    await alice.stamps.buy(64)
    for amount in (5, 17, 1, 30):
        assert await bob.stamps.receive(await alice.stamps.send(amount)) == amount
    assert (await alice.stamps.balance(), await bob.stamps.balance()) == (11, 53)


async def test_many_small_stamps_make_a_large_token(client: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "READY", 1_000)
    alice, bob = client(), client()
    await alice.stamps.buy(350)
    token = await alice.stamps.send(345)
    assert len(parse_token(token).proofs) <= ledger.MOST_PROOFS
    assert await bob.stamps.receive(token) == 345
    assert await alice.stamps.balance() == 5


async def test_side_by_side(client: Make) -> None:
    alice, bob = client(), client()
    await asyncio.gather(alice.stamps.buy(10), alice.stamps.buy(10))
    assert await alice.stamps.balance() == 20
    tokens = await asyncio.gather(*(alice.stamps.send(2) for _ in range(10)))
    secrets = [proof.secret for token in tokens for proof in parse_token(token).proofs]
    assert len(set(secrets)) == len(secrets)
    assert await asyncio.gather(*(bob.stamps.receive(token) for token in tokens)) == [2] * 10
    assert (await alice.stamps.balance(), await bob.stamps.balance()) == (0, 20)


async def test_two_processes_share_a_home(client: Make, tmp_path: Path) -> None:
    first, second, bob = client(tmp_path), client(tmp_path), client()
    await first.stamps.buy(8)
    tokens = await asyncio.gather(*(each.stamps.send(1) for each in (first, second) for _ in range(4)))
    assert [await bob.stamps.receive(token) for token in tokens] == [1] * 8
    assert await second.stamps.balance() == 0


async def test_stamps_spent_elsewhere_are_found(client: Make, tmp_path: Path) -> None:
    alice, bob = client(tmp_path), client()
    await alice.stamps.buy(10)
    proofs = await alice._store.run(ledger.proofs_on, alice.stamps.mint.url, "unspent", 3)
    await bob.stamps.receive(encode_token(Token(alice.stamps.mint.url, "sat", proofs)))
    check = await alice.stamps.check()
    assert (check.stamps, check.lost) == (7, 3)
    left = await alice._store.run(ledger.proofs_on, alice.stamps.mint.url, "unspent")
    assert not {proof.secret for proof in left} & {proof.secret for proof in proofs}


async def test_check_leaves_fresh_stamps(client: Make) -> None:
    alice = client()
    await alice.stamps.buy(5)
    before = await alice._store.run(ledger.proofs_on, alice.stamps.mint.url, "unspent")
    check = await alice.stamps.check()
    after = await alice._store.run(ledger.proofs_on, alice.stamps.mint.url, "unspent")
    assert (check.stamps, len(after)) == (5, 5)
    assert not {proof.secret for proof in before} & {proof.secret for proof in after}


async def test_restore_from_the_seed(client: Make, tmp_path: Path) -> None:
    alice = client(tmp_path / "alice")
    await alice.stamps.buy(130)
    await alice.stamps.send(7)
    await alice.stamps.check()
    seed = (tmp_path / "alice" / "wallet.seed").read_text()
    found = client(tmp_path / "found")
    # The seven in the token are unspent, and the seed finds them too.
    assert await found.stamps.restore(seed) == 130
    assert await found.stamps.balance() == 130
    # Swapped at once: nothing that the mint was asked about together is used later.
    before, after = [
        {proof.secret for proof in await each._store.run(ledger.proofs_on, each.stamps.mint.url, "unspent")}
        for each in (alice, found)
    ]
    assert after and not before & after
    assert not await found._store.run(ledger.proofs_on, found.stamps.mint.url, "exposed")
    assert await found.stamps.restore() == 0
    assert (await alice.stamps.check()).lost == 123
    await found.stamps.buy(3)
    assert await found.stamps.balance() == 133


@pytest.mark.parametrize("seed", ["", "ab" * 63, "zz" * 64])
async def test_restore_refuses_what_is_no_seed(client: Make, seed: str) -> None:
    with pytest.raises(InvalidInput):
        await client().stamps.restore(seed)


async def test_restore_never_replaces_a_seed(client: Make) -> None:
    alice = client()
    await alice.stamps.buy(1)
    with pytest.raises(InvalidInput):
        await alice.stamps.restore("ab" * 64)


async def test_two_devices_with_one_seed(client: Make, tmp_path: Path) -> None:
    first = client(tmp_path / "first")
    await first.stamps.buy(5)
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "wallet.seed").write_text((tmp_path / "first" / "wallet.seed").read_text())
    second = client(tmp_path / "second")
    await second.stamps.buy(250)
    await first.stamps.buy(20)
    assert await second.stamps.balance() == 250
    assert await first.stamps.balance() == 25
    assert (await first.stamps.check()).stamps == 25
    assert (await second.stamps.check()).stamps == 250


async def test_an_unpaid_invoice_is_kept_and_taken_up_again(client: Make, meddler: Meddler, tmp_path: Path) -> None:
    meddler.change("/v1/mint/quote/bolt11/", lambda quote: quote | {"state": "UNPAID"})
    alice = client(tmp_path, transport=meddler)
    shown: list[Purchase] = []
    for _ in range(2):
        with pytest.raises(PaymentTimeout):
            await alice.stamps.buy(10, timeout=0, on_invoice=shown.append)
    assert shown[0].request == shown[1].request
    meddler.honest()
    bought = await client(tmp_path).stamps.buy(10, on_invoice=shown.append)
    assert bought.request == shown[0].request
    assert await alice.stamps.balance() == 10
    # Another amount, or one that was had, is another purchase.
    assert (await alice.stamps.buy(10)).request != shown[0].request


async def test_paid_after_we_left(client: Make, meddler: Meddler, tmp_path: Path) -> None:
    meddler.change("/v1/mint/quote/bolt11/", lambda quote: quote | {"state": "UNPAID"})
    alice = client(tmp_path, transport=meddler)
    with pytest.raises(PaymentTimeout):
        await alice.stamps.buy(10, timeout=0)
    meddler.honest()
    check = await alice.stamps.check()
    assert (check.recovered, check.stamps) == (10, 10)


async def test_an_expired_invoice_is_asked_once_more(client: Make, meddler: Meddler, tmp_path: Path) -> None:
    meddler.change("/v1/mint/quote/bolt11/", lambda quote: quote | {"state": "UNPAID"})
    alice = client(tmp_path, transport=meddler)
    old = await alice.stamps.order(10)
    later = client(tmp_path, transport=meddler, clock=lambda: old.expiry)
    assert (await later.stamps.order(10)).request != old.request
    meddler.honest()
    assert (await later.stamps.check()).recovered == 20


async def test_a_mint_that_is_away_while_we_wait(client: Make, meddler: Meddler) -> None:
    alice = client(transport=meddler)
    times = iter([Response(503, b""), Response(429, b""), Response(502, b"<html>")])
    meddler.answers["/v1/mint/quote/bolt11/"] = lambda answer: next(times, answer)
    await alice.stamps.buy(5)
    assert await alice.stamps.balance() == 5


BAD_TOKENS = {
    "nothing": ("", StampMalformed),
    "no token": ("cashuC" + "A" * 100, StampMalformed),
    "cut short": (lambda t: encode_token(t)[:-9], StampMalformed),
    "another mint": (lambda t: encode_token(Token("https://elsewhere.example", "sat", t.proofs)), OtherMint),
    "another port": (lambda t: encode_token(Token(f"{t.mint}:1", "sat", t.proofs)), OtherMint),
    "another path": (lambda t: encode_token(Token(f"{t.mint}/x", "sat", t.proofs)), OtherMint),
    "this machine": (lambda t: encode_token(Token("http://127.0.0.1:22", "sat", t.proofs)), OtherMint),
    "user in the address": (
        lambda t: encode_token(Token("http://a@pennypost.sandbox", "sat", t.proofs)),
        StampMalformed,
    ),
    "another unit": (lambda t: encode_token(Token(t.mint, "usd", t.proofs)), StampWrongUnit),
    "unknown keyset": (lambda t: _with(t, id="01" + "00" * 7), StampUnknownKeyset),
    "locked": (
        lambda t: _with(t, secret='["P2PK",{"nonce":"00","data":"02' + "11" * 32 + '","tags":[]}]'),
        StampLocked,
    ),
    "a DLEQ proof that proves nothing": (
        lambda t: encode_token(
            Token(
                t.mint,
                "sat",
                [Proof(p.amount, p.id, p.secret, p.C, dleq=Dleq("11" * 32, "22" * 32, "33" * 32)) for p in t.proofs],
            ),
            keep_dleq=True,
        ),
        StampForged,
    ),
}


def _with(token: Token, **fields: str) -> str:
    proofs = [structs.replace(proof, **fields) for proof in token.proofs]
    return encode_token(Token(token.mint, "sat", proofs))


@pytest.mark.parametrize("row", BAD_TOKENS)
async def test_bad_tokens(client: Make, meddler: Meddler, row: str) -> None:
    make, error = BAD_TOKENS[row]
    alice, bob = client(), client(transport=meddler)
    await alice.stamps.buy(1)
    good = parse_token(await alice.stamps.send(1))
    text = make if isinstance(make, str) else make(good)
    with pytest.raises(error):
        await bob.stamps.receive(text)
    assert not [each for each in meddler.asked if each.startswith("POST")], "the mint was shown somebody's stamps"
    assert await bob.stamps.summary() == ledger.Balance()
    assert await bob.stamps.receive(encode_token(good)) == 1


async def test_a_forged_stamp_is_refused_by_the_mint(client: Make) -> None:
    alice, bob = client(), client()
    await alice.stamps.buy(1)
    token = parse_token(await alice.stamps.send(1))
    forged = _with(token, C=hash_to_curve(b"another point").hex())
    with pytest.raises(MintError):
        await bob.stamps.receive(forged)
    assert await bob.stamps.summary() == ledger.Balance()


async def test_what_is_ours_is_not_received(client: Make) -> None:
    alice = client()
    await alice.stamps.buy(1)
    proofs = await alice._store.run(ledger.proofs_on, alice.stamps.mint.url, "unspent")
    with pytest.raises(InvalidInput):
        await alice.stamps.receive(encode_token(Token(alice.stamps.mint.url, "sat", proofs)))
    assert await alice.stamps.balance() == 1


@pytest.mark.parametrize("way", WAYS)
async def test_interrupted_purchase(
    office: Sandbox, client: Make, tmp_path: Path, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def buy(alice: AsyncClient) -> None:
        await alice.stamps.buy(10, timeout=2)

    for step in range(MOST_STEPS):
        home = tmp_path / str(step)
        died = await dies(office, home, buy, way, step, monkeypatch)
        alice = client(home)
        ordered = len(await alice._store.run(orders.open_purchases_on, alice.stamps.mint.url))
        had = await alice.stamps.balance()
        check = await alice.stamps.check()
        assert check.stamps == (10 if ordered else had), (way, step)
        assert (check.lost, check.problems) == (0, ())
        if not died:
            assert check.stamps == 10 and step >= 5
            return
    pytest.fail("the work had no end")


@pytest.mark.parametrize("way", WAYS)
async def test_interrupted_purchase_taken_up_by_the_same_call(
    office: Sandbox, client: Make, tmp_path: Path, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def buy(alice: AsyncClient) -> None:
        await alice.stamps.buy(10, timeout=2)

    for step in range(MOST_STEPS):
        home = tmp_path / str(step)
        died = await dies(office, home, buy, way, step, monkeypatch)
        alice = client(home)
        complete = await alice.stamps.balance()
        await alice.stamps.buy(10)
        assert await alice.stamps.balance() == complete + 10, (way, step)
        assert not await alice._store.run(orders.open_purchases_on, alice.stamps.mint.url)
        if not died:
            return
    pytest.fail("the work had no end")


@pytest.mark.parametrize("way", WAYS)
async def test_interrupted_change_and_token(
    office: Sandbox, client: Make, tmp_path: Path, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "READY", 0)

    async def send(alice: AsyncClient) -> None:
        await alice.stamps.send(5)

    for step in range(MOST_STEPS):
        home = tmp_path / str(step)
        await client(home).stamps.buy(16)
        died = await dies(office, home, send, way, step, monkeypatch)
        check = await client(home).stamps.check()
        handed = sum(each.amount for each in check.tokens)
        assert check.stamps + handed == 16 and handed in (0, 5), (way, step)
        assert (check.lost, check.problems) == (0, ())
        if not died:
            assert handed == 5
            return
    pytest.fail("the work had no end")


@pytest.mark.parametrize("way", WAYS)
async def test_interrupted_receiving(
    office: Sandbox, client: Make, tmp_path: Path, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = client()
    await alice.stamps.buy(64)
    for step in range(MOST_STEPS):
        token = await alice.stamps.send(3)
        home = tmp_path / str(step)

        async def receive(bob: AsyncClient, token: str = token) -> None:
            await bob.stamps.receive(token)

        died = await dies(office, home, receive, way, step, monkeypatch)
        bob = client(home)
        check = await bob.stamps.check()
        assert check.stamps in (0, 3) and (check.lost, check.problems) == (0, ())
        if not check.stamps:
            # Nothing was written before it was asked, so the token is still good.
            assert await bob.stamps.receive(token) == 3
        with pytest.raises(ProofSpent):
            await client().stamps.receive(token)
        if not died:
            return
    pytest.fail("the work had no end")


@pytest.mark.parametrize("way", WAYS)
async def test_interrupted_restore(
    office: Sandbox, client: Make, tmp_path: Path, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (exchange, mint_client, stamps):
        monkeypatch.setattr(module, "BATCH", 4)
    monkeypatch.setattr(stamps, "GAP", 1)
    for step in range(MOST_STEPS):
        lost, home = tmp_path / f"lost-{step}", tmp_path / str(step)
        await client(lost).stamps.buy(5)
        seed = (lost / "wallet.seed").read_text()

        async def restore(alice: AsyncClient, seed: str = seed) -> None:
            await alice.stamps.restore(seed)

        died = await dies(office, home, restore, way, step, monkeypatch)
        alice = client(home)
        # What came back at once is no part of what is found again.
        await alice.stamps.restore(None if (home / "wallet.seed").exists() else seed)
        check = await alice.stamps.check()
        assert (check.stamps, check.lost, check.problems) == (5, 0, ()), (way, step)
        if not died:
            assert step >= 4
            return
    pytest.fail("the work had no end")


@pytest.mark.parametrize("way", WAYS)
async def test_interrupted_check(
    office: Sandbox, client: Make, tmp_path: Path, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check(alice: AsyncClient) -> None:
        found = await alice.stamps.check()
        if found.problems:
            raise NotEnoughStamps

    for step in range(MOST_STEPS):
        home = tmp_path / str(step)
        await client(home).stamps.buy(5)
        died = await dies(office, home, check, way, step, monkeypatch)
        found = await client(home).stamps.check()
        assert (found.stamps, found.lost) == (5, 0), (way, step)
        if not died:
            return
    pytest.fail("the work had no end")
