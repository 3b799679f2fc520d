"""Swaps that succeed, and those that happen at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from pennypost.protocol import bdhke
from pennypost_mint.swap import CHUNK
from tests.mint.desk import MINT, QUOTE, SWAP, Desk, open_desk, settings_for
from tests.support.stamps import output

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def desk(shared_desk: Desk) -> Desk:
    return shared_desk


async def test_a_swap_gives_other_proofs_of_the_same_worth(desk: Desk) -> None:
    old = await desk.buy(8, 2, 1)
    outputs = [output(amount) for amount in (1, 2, 4, 4)]
    answer = await desk.done(SWAP, {"inputs": old, "outputs": desk.messages(outputs)})
    new = desk.proofs(outputs, answer["signatures"])
    assert [proof["amount"] for proof in new] == [1, 2, 4, 4]
    assert await desk.states(old + new) == ["SPENT"] * 3 + ["UNSPENT"] * 4
    again = [output(8), output(2), output(1)]
    await desk.done(SWAP, {"inputs": new, "outputs": desk.messages(again)})


async def test_a_proof_with_a_dleq_and_its_blinding_factor_is_spent_like_any(desk: Desk) -> None:
    [proof] = await desk.buy(1)
    carried = proof | {"dleq": {"e": "00" * 32, "s": "00" * 32, "r": "00" * 32}, "witness": None, "more": [1]}
    await desk.done(SWAP, {"inputs": [carried], "outputs": desk.messages([output(1)])})


async def test_a_hundred_swaps_of_one_proof_at_once(desk: Desk) -> None:
    [proof] = await desk.buy(8)
    bodies = [{"inputs": [proof], "outputs": desk.messages([output(8)])} for _ in range(100)]
    answers = await asyncio.gather(*(desk.ask(SWAP, body) for body in bodies))
    assert Counter((status, answer.get("code")) for status, answer in answers) == {(200, None): 1, (400, 11001): 99}
    assert await desk.signed([body["outputs"][0] for body in bodies]) == 1


async def test_overlapping_swaps_at_once_have_one_winner_and_no_deadlock(desk: Desk) -> None:
    a, b = await desk.buy(8, 8)
    pairs = [[a, b], [b, a]] * 10
    bodies = [{"inputs": pair, "outputs": desk.messages([output(16)])} for pair in pairs]
    answers = await asyncio.gather(*(desk.ask(SWAP, body) for body in bodies))
    assert Counter((status, answer.get("code")) for status, answer in answers) == {(200, None): 1, (400, 11001): 19}


async def test_one_output_in_many_swaps_at_once_is_signed_once(desk: Desk) -> None:
    proofs = await desk.buy(*[8] * 20)
    [wanted] = desk.messages([output(8)])
    answers = await asyncio.gather(*(desk.ask(SWAP, {"inputs": [proof], "outputs": [wanted]}) for proof in proofs))
    assert Counter((status, answer.get("code")) for status, answer in answers) == {(200, None): 1, (400, 11003): 19}
    assert Counter(await desk.states(proofs)) == {"SPENT": 1, "UNSPENT": 19}


async def test_a_large_swap_is_calculated_in_pieces(desk: Desk) -> None:
    amounts = [1] * (2 * CHUNK + 3)
    old = await desk.buy(*amounts)
    outputs = [output(amount) for amount in amounts]
    answer = await desk.done(SWAP, {"inputs": old, "outputs": desk.messages(outputs)})
    assert len(desk.proofs(outputs, answer["signatures"])) == len(amounts)
    forged = [*old[:-1], old[-1] | {"C": old[0]["C"]}]
    assert await desk.refused(SWAP, {"inputs": forged, "outputs": desk.messages(outputs)}) == 10001


async def test_swaps_through_worker_processes(tmp_path: Path) -> None:
    async with open_desk(settings_for(tmp_path), processes=2) as desk:
        proofs = await desk.buy(*[1] * 40)
        outputs = [output(1) for _ in proofs]
        answers = await asyncio.gather(
            *(
                desk.done(SWAP, {"inputs": [proof], "outputs": desk.messages([made])})
                for proof, made in zip(proofs, outputs, strict=True)
            )
        )
        new = [
            proof
            for made, answer in zip(outputs, answers, strict=True)
            for proof in desk.proofs([made], answer["signatures"])
        ]
        forged = new[0] | {"C": new[1]["C"]}
        assert await desk.refused(SWAP, {"inputs": [forged], "outputs": desk.messages([output(1)])}) == 10001
        assert await desk.states(proofs + new) == ["SPENT"] * 40 + ["UNSPENT"] * 40


async def test_a_state_is_told_in_the_order_and_writing_of_the_question(desk: Desk) -> None:
    spent, unspent = await desk.buy(1, 1)
    await desk.done(SWAP, {"inputs": [spent], "outputs": desk.messages([output(1)])})
    low, other = (bdhke.hash_to_curve(proof["secret"].encode()).hex() for proof in (spent, unspent))
    high = low[:2] + low[2:].upper()
    never = bdhke.hash_to_curve(b"never seen").hex()
    answer = await desk.done("/v1/checkstate", {"Ys": [high, other, low, never, high]})
    told = [(state["Y"], state["state"], state["witness"]) for state in answer["states"]]
    assert told == [
        (high, "SPENT", None),
        (other, "UNSPENT", None),
        (low, "SPENT", None),
        (never, "UNSPENT", None),
        (high, "SPENT", None),
    ]
    assert await desk.done("/v1/checkstate", {"Ys": []}) == {"states": []}


async def test_restore_gives_what_was_signed_and_only_that(desk: Desk) -> None:
    outputs = [output(amount) for amount in (1, 2, 4)]
    proofs = await desk.buy_outputs(outputs)
    asked = [desk.message(made) | {"amount": 0} for made in (outputs[2], output(1), outputs[0])]
    answer = await desk.done("/v1/restore", {"outputs": asked})
    assert [found["B_"] for found in answer["outputs"]] == [asked[0]["B_"], asked[2]["B_"]]
    assert [found["amount"] for found in answer["outputs"]] == [4, 1]
    assert desk.proofs([outputs[2], outputs[0]], answer["signatures"]) == [proofs[2], proofs[0]]


async def test_a_thousand_outputs_are_bought_and_restored_in_one_request(desk: Desk) -> None:
    outputs = [output(1) for _ in range(1_000)]
    proofs = await desk.buy_outputs(outputs)
    answer = await desk.done("/v1/restore", {"outputs": desk.messages(outputs)})
    assert desk.proofs(outputs[:5], answer["signatures"][:5]) == proofs[:5]
    assert len(answer["signatures"]) == 1_000
    assert Counter(await desk.states(proofs)) == {"UNSPENT": 1_000}


async def test_without_a_database_every_request_may_be_repeated(tmp_path: Path) -> None:
    async with open_desk(settings_for(tmp_path)) as desk:
        [proof] = await desk.buy(1)
        quote = await desk.quote(1)
        await desk.database.close()
        body = {"inputs": [proof], "outputs": desk.messages([output(1)])}
        for path, asked in (
            (SWAP, body),
            (MINT, {"quote": quote["quote"], "outputs": body["outputs"]}),
            (QUOTE, {"amount": 1, "unit": "sat"}),
            ("/v1/checkstate", {"Ys": [bdhke.hash_to_curve(b"").hex()]}),
            ("/v1/restore", {"outputs": body["outputs"]}),
        ):
            response = await desk.http.post(path, json=asked)
            assert (response.status_code, set(response.json())) == (503, {"detail", "code"})
            assert response.headers["retry-after"]
        assert (await desk.http.get("/v1/keys")).status_code == 200
    async with open_desk(settings_for(tmp_path)) as desk:
        await desk.done(SWAP, body)
