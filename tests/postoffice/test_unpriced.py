"""An office whose letters cost nothing: they have limits of their own, can be held, and what was taken is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from pennypost.protocol.headers import decode_headers
from pennypost.protocol.price import PriceList, Rule
from pennypost_mint.runtime.limits import FREE_SECONDS
from pennypost_postoffice.retention import unpriced_on
from tests.postoffice.house import Author, House, open_house, wrap
from tests.postoffice.test_free_quota import _post_free, _set
from tests.postoffice.test_holds import Sale
from tests.support.relay import plain

FREE_OFFICE = "[[rule]]\nbase = 0\n"


@pytest_asyncio.fixture
async def free(address: str, tmp_path: Path) -> AsyncIterator[House]:
    """A free office on each database."""
    prices = tmp_path / "prices.toml"
    prices.write_text(FREE_OFFICE)
    async with open_house(tmp_path, address, price_file=str(prices)) as opened:
        # behind the one at the start, so that none runs beside the test
        await opened.office.retention.sweep()
        yield opened


async def _taken(house: House) -> tuple[int, int]:
    return await house.office.database.read(unpriced_on)


def _counted(house: House) -> tuple[float | None, ...]:
    registry = house.service.metrics.registry
    return tuple(registry.get_sample_value(f"pennypost_office_unpriced_{name}") for name in ("letters", "bytes"))


async def test_it_says_that_it_is_free(free: House) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        document = (await http.get(free.url, headers={"accept": "application/nostr+json"})).json()
        answer = await http.post(f"{free.url}/v1/events", json=plain(wrap()))
    assert document["limitation"]["payment_required"] is False and "fees" not in document
    assert answer.status_code == 200 and answer.json()["accepted"]


async def test_what_was_taken_is_kept_and_more_is_refused(free: House) -> None:
    """Past the quota: `quota-full` over both ways, a repeat is a duplicate, kinds that are free and what deletes still
    come in, and there is room again when something is gone."""
    mail = [wrap() for _ in range(3)]
    author = Author()
    note = author.sign(1)
    _set(free, unpriced_rows=4, free_rows=1)
    async with free.relay() as relay:
        await _post_free(relay, *mail, note)
        assert await _taken(free) == _counted(free) and (await _taken(free))[0] == 4
        late, proof = wrap(), free.purse.proof()
        answer = await relay.post(late, free.purse.token(proof))
        assert (answer.accepted, answer.code) == (False, "quota-full")
        assert await free.spent(proof) == [False]
        async with httpx.AsyncClient(trust_env=False) as http:
            refused = await http.post(f"{free.url}/v1/events", json=plain(late))
        assert refused.status_code == 503 and int(refused.headers["retry-after"]) > 0
        assert (await relay.post(mail[0])).duplicate
        # the quota of free kinds takes none of them
        await _post_free(relay, Author().sign(10_002), Author().sign(10_002))
        await free.office.retention.sweep()
        assert len(await relay.fetch({"ids": [each.id for each in (*mail, note)]})) == 4
        assert (await relay.post(late)).code == "quota-full"
        await _post_free(relay, author.sign(5, ["e", note.id]))
        await free.office.retention.sweep()
        assert _counted(free) == await _taken(free) and (await _taken(free))[0] == 3
        await _post_free(relay, late)
        assert (await relay.post(note)).code == "deleted"


async def test_what_comes_in_while_the_database_is_asked_counts(free: House) -> None:
    read = free.office.database.read

    async def read_and_wait(work: Any, *arguments: Any) -> Any:
        found = await read(work, *arguments)
        if work is unpriced_on:
            async with free.relay() as relay:
                await _post_free(relay, wrap())
        return found

    free.office.database.read = read_and_wait
    try:
        await free.office.retention.sweep()
    finally:
        free.office.database.read = read
    assert _counted(free) == await _taken(free) and (await _taken(free))[0] == 1


async def test_bytes_count_too(free: House) -> None:
    free.office.settings = free.office.settings.model_copy(update={"unpriced_bytes": 2_000})
    async with free.relay() as relay:
        await _post_free(relay, wrap(content="x" * 1_000), wrap(content="x" * 1_000))
        assert (await relay.post(wrap())).code == "quota-full"


async def test_a_letter_that_costs_nothing_can_be_held(free: House) -> None:
    """And counts before and after its release."""
    sale = Sale()
    letter = sale.letter()
    async with free.relay() as relay:
        answer = await relay.post(letter)
        assert answer.accepted and answer.message.endswith("held until it is released")
        assert await relay.fetch({"ids": [letter.id]}) == []
        before = await _taken(free)
        assert before[0] == 1 and _counted(free) == before
        assert (await relay.release(sale.hold, sale.x, sale.id)).message == "accepted: released 1"
        assert await relay.fetch({"ids": [letter.id]}) == [plain(letter)]
        assert await _taken(free) == before
        async with httpx.AsyncClient(trust_env=False) as http:
            _, headers = decode_headers((await http.get(f"{free.url}/v1/headers")).content)
        assert [header.pubkey.hex() for header in headers] == [letter.pubkey] * 2
        _set(free, unpriced_rows=1)
        await free.office.retention.sweep()
        assert (await relay.post(Sale().letter())).code == "quota-full"


async def test_what_a_former_price_asks_nothing_for_can_be_held(house: House) -> None:
    house.office.policy.change_prices(PriceList((Rule(base=0),)), house.office.now())
    house.office.policy.change_prices(PriceList(), house.office.now())
    proof, letter = house.purse.proof(), Sale().letter()
    async with house.relay() as relay:
        assert (await relay.post(letter, house.purse.token(proof))).accepted
    assert await house.spent(proof) == [False] and (await _taken(house))[0] == 1


async def test_rates_of_their_own(free: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of free kinds are others; past the rate of all together one source has that of one connection."""
    # on a clock that stands, so that none is saved up meanwhile
    monkeypatch.setattr(free.office.policy, "_clock", lambda: 0.0)
    limits: dict[str, Any] = {"unpriced_rate": 4 / FREE_SECONDS, "free_rate": 2 / FREE_SECONDS}
    _set(free, **limits)
    async with free.relay() as relay, free.relay() as other:
        codes = [(await relay.post(wrap())).code for _ in range(6)]
        assert codes == [""] * 4 + ["rate-limited"] * 2
        codes = [(await relay.post(Author().sign(10_002))).code for _ in range(4)]
        assert codes == [""] * 2 + ["rate-limited"] * 2
        assert (await other.post(wrap())).accepted
    _set(free, **limits, all_unpriced_rate=0.1)
    async with free.relay() as relay, free.relay() as other:
        codes = [(await each.post(wrap())).code for each in (relay, other) * 4]
        assert "rate-limited" in codes and 1 <= codes.count("") <= 6


async def test_several_processes_pass_the_quota_by_what_they_store_between_two_sweeps(
    free: House, tmp_path: Path, address: str
) -> None:
    """One process, on SQLite, does not pass it."""
    async with AsyncExitStack() as stack:
        _set(free, unpriced_rows=3)
        relay = await stack.enter_async_context(free.relay())
        if address:
            price_file = str(tmp_path / "prices.toml")
            other = await stack.enter_async_context(
                open_house(tmp_path, address, price_file=price_file, unpriced_rows=3)
            )
            # behind the sweep of its start, which counts what is there
            await other.office.retention.sweep()
            beside = await stack.enter_async_context(other.relay())
            await _post_free(relay, *[wrap() for _ in range(3)])
            await _post_free(beside, wrap())
            await other.office.retention.sweep()
            assert (await beside.post(wrap())).code == "quota-full"
        else:
            await _post_free(relay, *[wrap() for _ in range(3)])
        assert (await relay.post(wrap())).code == "quota-full"
