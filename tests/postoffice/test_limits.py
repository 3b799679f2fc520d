"""Limits that the operator sets: announced by NIP-11, taken on by a reload, felt by connections that are open."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio
import websockets
from websockets.asyncio.client import connect

from pennypost.protocol.errors import ConfigurationError
from pennypost_mint.runtime.limits import EPHEMERAL_SECONDS, FREE_SECONDS, MAX_FRAME
from pennypost_mint.runtime.settings import RELOADED, Settings, load_settings
from pennypost_postoffice.retention import Retention
from tests.postoffice.house import DAY, Author, House, wrap
from tests.postoffice.test_change import blank
from tests.postoffice.test_syncs import EVERYTHING, say
from tests.support.relay import Relay, plain


def _set(house: House, **limits: Any) -> None:
    """A reload with these limits, and no others changed."""
    house.service.load = lambda: house.settings.model_copy(update=limits)
    house.service.reload()


@pytest_asyncio.fixture(loop_scope="module")
async def house(shared_house: House) -> AsyncIterator[House]:
    yield shared_house
    _set(shared_house)


pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMITS = (
    "max_message",
    "max_event",
    "max_tags",
    "max_ahead",
    "max_behind",
    "max_subscriptions",
    "max_filters",
    "max_limit",
    "max_connections",
    "max_waiters",
    "free_rate",
    "ephemeral_rate",
    "free_rows",
    "free_bytes",
    "max_outgoing",
    "max_count",
    "max_sync",
    "all_sync",
    "max_proofs",
    "max_change",
    "unpriced_rate",
    "all_unpriced_rate",
    "unpriced_rows",
    "unpriced_bytes",
    "read_cpu",
    "all_free_rate",
    "all_ephemeral_rate",
)


async def test_every_limit_is_reloaded_and_documented() -> None:
    assert RELOADED.issuperset(LIMITS)
    assert all(Settings.model_fields[name].description for name in LIMITS)


@pytest.mark.parametrize("name", LIMITS)
async def test_a_limit_is_a_number_in_its_bounds(name: str) -> None:
    for bad in ("-1", "x", "1e400", str(10**30), "nan"):
        with pytest.raises(ConfigurationError) as caught:
            load_settings({f"PENNYPOST_{name.upper()}": bad})
        assert f"PENNYPOST_{name.upper()}: " in str(caught.value)


async def test_an_event_fits_into_a_message() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings({"PENNYPOST_MAX_EVENT": "131072", "PENNYPOST_MAX_MESSAGE": "131072"})
    assert "PENNYPOST_MAX_EVENT" in str(caught.value) and "PENNYPOST_MAX_MESSAGE" in str(caught.value)


# --- what is announced

ANNOUNCED = [
    ("max_message", 200_000, "max_message_length"),
    ("max_event", 70_000, "max_content_length"),
    ("max_tags", 10, "max_event_tags"),
    ("max_ahead", 60, "created_at_upper_limit"),
    ("max_behind", 3 * DAY, "created_at_lower_limit"),
    ("max_subscriptions", 7, "max_subscriptions"),
    ("max_filters", 3, "max_filters"),
    ("max_limit", 11, "max_limit"),
    ("max_limit", 12, "default_limit"),
]


@pytest.mark.parametrize(("name", "value", "announced"), ANNOUNCED)
async def test_nip_11_follows_at_once(house: House, name: str, value: int, announced: str) -> None:
    async with httpx.AsyncClient(base_url=house.url, trust_env=False) as http:

        async def limitation() -> dict[str, Any]:
            return (await http.get("/", headers={"accept": "application/nostr+json"})).json()["limitation"]

        before = await limitation()
        assert before.get(announced) != value
        _set(house, **{name: value})
        assert await limitation() == before | {announced: value} | (
            {"max_limit": value, "default_limit": value} if name == "max_limit" else {}
        )


# --- what is refused

Ask = Callable[[House, Relay], Awaitable[str]]
"""Sends something to an open connection; the code of its refusal, "" where it was taken."""


async def _post(house: House, relay: Relay, event: Any) -> str:
    """With a stamp, which a refusal leaves alone."""
    proof = house.purse.proof()
    answer = await relay.post(event, house.purse.token(proof))
    assert await house.spent(proof) == [answer.accepted], answer
    assert answer.accepted or answer.message.startswith("invalid:")
    return answer.code


async def _event_of(house: House, relay: Relay) -> str:
    return await _post(house, relay, Author().sign(content="x" * 3_000))


async def _tags(house: House, relay: Relay) -> str:
    return await _post(house, relay, Author().sign(1, *(["t", str(n)] for n in range(6))))


async def _ahead(house: House, relay: Relay) -> str:
    return await _post(house, relay, Author().sign(age=-500))


async def _behind(house: House, relay: Relay) -> str:
    return await _post(house, relay, Author().sign(age=5_000))


async def _asked(relay: Relay, *filters: Any) -> str:
    name = secrets.token_hex(4)
    await relay.send(["REQ", name, *filters])
    while True:
        frame = await relay.frames.get()
        if frame[1] == name and frame[0] in ("CLOSED", "EOSE"):
            return frame[2].rpartition("[")[2][:-1] if frame[0] == "CLOSED" else ""


async def _filters(house: House, relay: Relay) -> str:
    return await _asked(relay, *[{"ids": [secrets.token_hex(32)]}] * 3)


async def _subscriptions(house: House, relay: Relay) -> str:
    return [await _asked(relay, {"ids": [secrets.token_hex(32)]}) for _ in range(3)][-1]


async def _message(house: House, relay: Relay) -> str:
    """Of 30 KB, in characters of three bytes each."""
    await relay.send(["X", "€" * 10_000])
    while True:
        frame = await relay.frames.get()
        if frame[0] == "NOTICE":
            code = frame[1].rpartition("[")[2][:-1]
            return "" if code == "frame" else code


async def _proofs(house: House, relay: Relay) -> str:
    """A stamp of three proofs, like one that was taken a moment ago."""
    proofs = [house.purse.proof() for _ in range(3)]
    answer = await relay.post(wrap(), house.purse.token(*proofs))
    assert await house.spent(*proofs) == [answer.accepted] * 3
    return answer.code


async def _change(house: House, relay: Relay) -> str:
    proof = house.purse.proof(4)
    answer = await relay.post(wrap(), house.purse.token(proof), {"change": [blank(house) for _ in range(2)]})
    assert await house.spent(proof) == [answer.accepted]
    return answer.code


async def _three(house: House, relay: Relay) -> dict[str, Any]:
    """A filter for three events."""
    author = Author()
    await house.pay(relay, [author.sign() for _ in range(3)])
    return {"authors": [author.pubkey]}


async def _count(house: House, relay: Relay) -> str:
    await relay.send(["COUNT", "n", await _three(house, relay)])
    while (frame := await relay.frames.get())[0] not in ("COUNT", "CLOSED"):
        pass
    return frame[2].rpartition("[")[2][:-1] if frame[0] == "CLOSED" else ""


async def _sync(house: House, relay: Relay) -> str:
    frame = await say(relay, "NEG-OPEN", "n", await _three(house, relay), EVERYTHING)
    return frame[2].rpartition("[")[2][:-1] if frame[0] == "NEG-ERR" else ""


REFUSED: dict[str, tuple[dict[str, Any], Ask, str]] = {
    "an event's bytes": ({"max_event": 2_000}, _event_of, "event"),
    "an event's tags": ({"max_tags": 5}, _tags, "event"),
    "ahead of the clock": ({"max_ahead": 100}, _ahead, "future"),
    "in the past": ({"max_behind": 4_000}, _behind, "past"),
    "filters": ({"max_filters": 2}, _filters, "filter"),
    "subscriptions": ({"max_subscriptions": 2}, _subscriptions, "subscriptions"),
    "a stamp's proofs": ({"max_proofs": 2}, _proofs, "stamp-malformed"),
    "blanks for change": ({"max_change": 1}, _change, "invalid-input"),
    "events of a count": ({"max_count": 2}, _count, "query-too-large"),
    "events of a sync": ({"max_sync": 2}, _sync, "query-too-large"),
    "events of all syncs": ({"all_sync": 2}, _sync, "syncs"),
    "a message, in bytes": ({"max_message": 16_384, "max_event": 10_000}, _message, "too-large"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_an_open_connection_feels_it(house: House, case: str) -> None:
    limits, ask, code = REFUSED[case]
    async with house.relay() as relay:
        assert await ask(house, relay) == ""
        _set(house, **limits)
        assert await ask(house, relay) == code
        _set(house)
        async with house.relay() as another:
            assert await ask(house, another) == ""


async def test_a_repeat_is_a_duplicate_whatever_the_limit_is_now(house: House) -> None:
    """The stamp of a letter that is stored is spent: nobody is told that it is still good."""
    event = Author().sign(age=5_000)
    async with house.relay() as relay:
        await house.pay(relay, [event])
        _set(house, max_behind=4_000)
        assert (await relay.post(event)).duplicate
        ephemeral = Author().sign(20_001, age=5_000)
        assert (await relay.post(ephemeral)).code == "past"


async def test_a_larger_message_is_taken_by_an_open_connection(house: House) -> None:
    """Past the limit the connection ends; with a larger one the same message is answered."""
    text = "x" * (MAX_FRAME + 1)
    async with connect(house.websocket_url, proxy=None, max_size=None) as cut, house.relay() as relay:
        await cut.recv()
        with pytest.raises(websockets.ConnectionClosedError) as caught:
            await cut.send(text)
            await cut.recv()
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1009
        _set(house, max_message=2 * MAX_FRAME)
        await relay.send([text])
        assert (await relay.frames.get())[0] == "AUTH"
        assert (await relay.frames.get())[0] == "NOTICE"


async def test_a_body_has_the_same_limit(house: House) -> None:
    async with httpx.AsyncClient(base_url=house.url, trust_env=False) as http:
        _set(house, max_message=16_384, max_event=10_000)
        answer = await http.post("/v1/events", json=plain(Author().sign(content="x" * 17_000)))
        assert answer.status_code == 413 and answer.json()["detail"].endswith("[body-too-large]")


async def test_a_query_is_answered_with_so_many(house: House) -> None:
    """Also where the filter has no limit, and where it asks for more."""
    author = Author()
    async with house.relay() as relay:
        await house.pay(relay, [author.sign() for _ in range(4)])
        assert len(await relay.fetch({"authors": [author.pubkey]})) == 4
        _set(house, max_limit=3)
        for wanted in ({}, {"limit": 4}, {"limit": 2}):
            found = await relay.fetch({"authors": [author.pubkey]} | wanted)
            assert len(found) == wanted.get("limit", 3) - (wanted == {"limit": 4})


RATES = [("free_rate", 10_002, FREE_SECONDS), ("ephemeral_rate", 20_001, EPHEMERAL_SECONDS)]


@pytest.mark.parametrize(("setting", "kind", "at_once"), RATES)
async def test_rates_of_what_is_free(
    house: House, monkeypatch: pytest.MonkeyPatch, setting: str, kind: int, at_once: int
) -> None:
    """What can be sent at once is a number of seconds' worth, and a reload begins anew."""
    async with house.relay() as relay:
        for _ in range(2):
            _set(house, **{setting: 0.01})
            # on a clock that stands, so that none is saved up meanwhile; the office has its own back at once
            with monkeypatch.context() as patch:
                patch.setattr(house.office.policy, "_clock", lambda: 0.0)
                _set(house, **{setting: 0.1})
            codes = [(await relay.post(Author().sign(kind))).code for _ in range(int(at_once * 0.1) + 2)]
            assert codes[0] != "rate-limited" and codes[-1] == "rate-limited"


async def test_free_rows_are_bounded(house: House) -> None:
    """The oldest go first; letters with stamps stay."""
    author = Author()
    lists = [Author().sign(10_002, age=-10 - number) for number in range(5)]
    async with house.relay() as relay:
        for event in lists:
            assert (await relay.post(event)).accepted
        letter = wrap()
        await house.pay(relay, [author.sign(), letter])
        _set(house, free_rows=2)
        await Retention.sweep(house.office.retention)
        found = await relay.fetch({"kinds": [10_002]})
        assert {event["id"] for event in found} <= {event.id for event in lists[-2:]} and len(found) == 2
        assert len(await relay.fetch({"ids": [letter.id]})) == 1


async def test_cpu_of_reads(house: House) -> None:
    shares = house.office.shares
    before = shares._most
    _set(house, read_cpu=0.3)
    assert shares._most == pytest.approx(before / 2)
