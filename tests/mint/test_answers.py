"""The same request again gets the same answer, also after a restart and a rotation; nothing is spent twice."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from pathlib import Path

from sqlalchemy import func, select

from pennypost_mint import answers
from pennypost_mint.api import Keyring
from pennypost_mint.tables import answers as answers_table
from tests.mint.desk import MINT, SWAP, Desk, desk_on, open_desk, settings_for
from tests.support.stamps import output


def encoded(body: object) -> bytes:
    return json.dumps(body).encode()


async def test_a_swap_again(desk: Desk) -> None:
    old = await desk.buy(8, 4)
    outputs = [output(amount) for amount in (4, 1, 2, 1, 4)]
    body = encoded({"inputs": old, "outputs": desk.messages(outputs)})
    first = await desk.done(SWAP, body)
    for _ in range(3):
        assert await desk.done(SWAP, body) == first
    assert len(desk.proofs(outputs, first["signatures"])) == 5


async def test_a_swap_at_once_is_done_once_and_answers_all_alike(desk: Desk) -> None:
    old = await desk.buy(8)
    body = encoded({"inputs": old, "outputs": desk.messages([output(8)])})
    found = await asyncio.gather(*(desk.ask(SWAP, body) for _ in range(20)))
    assert {status for status, _ in found} == {200}
    assert all(answer == found[0][1] for _, answer in found)


async def test_another_request_with_the_same_proofs_is_not_the_same_request(desk: Desk) -> None:
    old = await desk.buy(8)
    messages = desk.messages([output(4), output(4)])
    await desk.done(SWAP, encoded({"inputs": old, "outputs": messages}))
    for other in (messages[::-1], messages[:1], desk.messages([output(8)])):
        status, answer = await desk.ask(SWAP, encoded({"inputs": old, "outputs": other}))
        assert status == 400
        assert answer["code"] in (11001, 11003, 11005)


async def test_a_mint_request_again(desk: Desk) -> None:
    quote = await desk.paid_quote(8)
    body = encoded({"quote": quote["quote"], "outputs": desk.messages([output(4), output(4)])})
    first = await desk.done(MINT, body)
    assert await desk.done(MINT, body) == first
    assert (await desk.state_of(quote))["amount_issued"] == 8


async def test_a_refused_request_is_not_remembered(desk: Desk) -> None:
    quote = await desk.quote(8)
    body = encoded({"quote": quote["quote"], "outputs": desk.messages([output(8)])})
    assert await desk.refused(MINT, body) == 20001
    from pennypost_mint.api import pay_play_invoice

    await pay_play_invoice(desk.database, quote["request"])
    await desk.mint.till.reconcile()
    await desk.done(MINT, body)


async def test_after_a_restart(tmp_path: Path, database_url: str) -> None:
    settings = settings_for(tmp_path, database_url)
    async with open_desk(settings) as desk:
        old = await desk.buy(8)
        swap = encoded({"inputs": old, "outputs": desk.messages([output(8)])})
        first = await desk.done(SWAP, swap)
    async with open_desk(settings) as desk:
        assert await desk.done(SWAP, swap) == first


async def test_after_a_rotation_an_answered_request_is_still_answered(desk: Desk) -> None:
    old, unspent = await desk.buy(8, 8)
    answered = encoded({"inputs": [old], "outputs": desk.messages([output(8)])})
    late = encoded({"inputs": [unspent], "outputs": desk.messages([output(8)])})
    first = await desk.done(SWAP, answered)
    quote = await desk.paid_quote(8)
    minted = encoded({"quote": quote["quote"], "outputs": desk.messages([output(8)])})
    issued = await desk.done(MINT, minted)
    retired = [dataclasses.replace(keyset, active=False) for keyset in desk.keyring.keysets]
    keyring = Keyring(retired, desk.keyring.identity)
    async with desk_on(desk.database, desk.settings, keyring) as rotated:
        assert await rotated.done(SWAP, answered) == first
        assert await rotated.done(MINT, minted) == issued
        assert await rotated.refused(SWAP, late) == 12002


async def test_only_hashes_are_kept_and_they_are_forgotten(desk: Desk) -> None:
    await desk.buy(*[1] * 3)
    now = int(time.time())

    def count(connection):  # type: ignore[no-untyped-def]
        return connection.execute(select(func.count()).select_from(answers_table)).scalar()

    assert await desk.database.read(count) == 1
    assert await desk.database.write(answers.forget_on, now) == 0
    assert await desk.database.write(answers.forget_on, now + answers.TTL + 1) == 1
    assert await desk.database.read(count) == 0


def test_a_request_is_its_method_path_and_body() -> None:
    requests = [
        answers.request_hash("POST", "/v1/swap", b"{}"),
        answers.request_hash("POST", "/v1/mint/bolt11", b"{}"),
        answers.request_hash("POST", "/v1/swap", b"{} "),
    ]
    assert len(set(requests)) == 3
    assert answers.request_hash("POST", "/v1/swap", b"{}") == requests[0]
