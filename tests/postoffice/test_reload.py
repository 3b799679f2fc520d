"""What changes while the office runs: settings, prices, bans; and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from pennypost.protocol.errors import ConfigurationError, KindRefused
from pennypost.protocol.price import PriceList, Rule, parse_prices
from pennypost_mint.api import Keyring
from pennypost_mint.runtime.database import open_database
from pennypost_mint.runtime.settings import RELOADED, Settings, load_settings
from pennypost_postoffice.app import Service
from pennypost_postoffice.bans import Ban, ban_on, bans_on, unban_on
from pennypost_postoffice.marks import RELOAD, touch_on
from pennypost_postoffice.operate.commands import office as office_commands
from pennypost_postoffice.policy import Policy
from tests.postoffice.house import Author, House, Purse, open_house
from tests.support.relay import Relay
from tests.support.server import Server


def test_what_is_reloaded_is_a_setting() -> None:
    assert set(Settings.model_fields) > RELOADED


def _given(house: House, **changed: Any) -> Callable[[], Settings]:
    return lambda: house.settings.model_copy(update=changed)


async def _information(house: House) -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False) as http:
        return (await http.get(house.url, headers={"accept": "application/nostr+json"})).json()


# --- settings and prices


async def test_settings_are_taken_on_without_dropping_anybody(sqlite_house: House, tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text("[[rule]]\nbase = 3\n")
    service, office = sqlite_house.service, sqlite_house.office
    async with sqlite_house.relay() as relay:
        service.load = _given(
            sqlite_house,
            name="another",
            price_file=prices,
            rate_limit=1.0,
            sweep_every=7.0,
            private_wraps=True,
            trusted_proxies="10.0.0.0/8",
            max_mint=5,
            data_dir=tmp_path / "elsewhere",
        )
        service.reload()
        document = await _information(sqlite_house)
        assert (document["name"], document["fees"]["publication"][0]["amount"]) == ("another", 3)
        assert office.live.private and office.retention.every == 7.0
        assert service.settings.max_mint == 5 and service.settings.data_dir == sqlite_house.settings.data_dir
        assert (await relay.post(Author().sign(1), sqlite_house.purse.token())).accepted


@pytest.mark.parametrize("text", ["[[rule]]\nbase = -1\n", "no toml", "[[rule]]\nbasis = 1\n", None])
async def test_a_bad_price_file_changes_nothing(
    sqlite_house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    prices = tmp_path / "prices.toml"
    if text is not None:
        prices.write_text(text)
    sqlite_house.service.load = _given(sqlite_house, name="another", price_file=prices)
    before = sqlite_house.office.policy.prices
    sqlite_house.service.reload()
    assert sqlite_house.office.policy.prices is before
    assert (await _information(sqlite_house))["name"] == sqlite_house.settings.name
    out = capsys.readouterr()
    assert "the settings stay as they are" in out.out + out.err
    assert str(tmp_path) not in out.out + out.err


class _Anyone:
    origin = ""
    source = b""
    rate_key: object = "x"

    def __init__(self) -> None:
        self.authenticated: set[str] = set()

    def took(self) -> None: ...

    def answered(self, post: Any, answer: Any) -> None: ...


def _policy(prices: PriceList) -> Callable[..., Any]:
    policy = Policy(prices, load_settings({}, price_grace=GRACE), lambda: 0.0)

    def change(prices: PriceList, now: int) -> None:
        policy.change_prices(prices, now)

    def check(now: int, kind: int = 1) -> Any:
        return policy.check(Author().sign(kind, at=now), 100, now, _Anyone())

    check.change = change  # type: ignore[attr-defined]
    return check


NOW = 1_800_000_000
GRACE = 3_600
ONE, TWO, FIVE = (PriceList((Rule(base=base),)) for base in (1, 2, 5))


def test_a_lower_price_of_before_is_honoured_for_a_while() -> None:
    check: Any = _policy(TWO)
    check.change(FIVE, NOW)
    assert check(NOW).sat == 2
    check.change(PriceList((Rule(base=3),)), NOW + 10)
    assert check(NOW + GRACE - 1).sat == 2
    assert check(NOW + GRACE).sat == 3
    check.change(ONE, NOW + GRACE)
    assert check(NOW + GRACE).sat == 1
    check.change(ONE, NOW + GRACE)
    check.change(FIVE, NOW + 3 * GRACE)
    assert check(NOW + 3 * GRACE).sat == 1


def test_what_is_kept_and_taken_changes_at_once() -> None:
    check: Any = _policy(parse_prices("free_kinds = [1]\n[[rule]]\nbase = 2\nttl_default = 1000\nttl_max = 1000\n"))
    check.change(parse_prices("free_kinds = []\n[[rule]]\nkinds = [1]\nbase = 9\nttl_default = 500\n"), NOW)
    found = check(NOW)
    assert (found.sat, found.free, found.keep_until) == (0, True, NOW + 500)
    with pytest.raises(KindRefused):
        check(NOW, kind=7)


def test_what_was_not_taken_before_has_no_old_price() -> None:
    check: Any = _policy(parse_prices("[[rule]]\nkinds = [7]\nbase = 1\n"))
    check.change(FIVE, NOW)
    assert check(NOW).sat == 5


async def _purse(folder: Path, server: Server, address: str = "") -> Purse:
    settings = load_settings({}, data_dir=str(folder), database_url=address, public_url=server.url)
    database = open_database(address, folder)
    try:
        return Purse(await Keyring.open(database, settings), server.url)
    finally:
        await database.close()


async def _until(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_sighup_reads_the_files_again(tmp_path: Path, serve: Callable[..., Server]) -> None:
    """Prices, and the settings file; a bad one is refused in the log, and the connection outlives both."""
    prices, settings = tmp_path / "prices.toml", tmp_path / "settings"
    prices.write_text("[[rule]]\nbase = 2\n")
    settings.write_text("PENNYPOST_NAME=one\n")
    server = serve(settings={"PRICE_FILE": str(prices), "SETTINGS": str(settings)})

    async def name() -> str:
        async with httpx.AsyncClient(trust_env=False) as http:
            return (await http.get(server.url, headers={"accept": "application/nostr+json"})).json()["name"]

    async with Relay(server.websocket_url) as relay:
        letter = Author().sign(1)
        assert (await relay.post(letter)).code == "stamp-required"
        assert await name() == "one"
        settings.write_text("PENNYPOST_NAME=two\n")
        os.kill(server.pid, signal.SIGHUP)
        async with asyncio.timeout(20):
            while await name() != "two":
                await asyncio.sleep(0.01)
        settings.write_text("PENNYPOST_NAMES=three\n")
        os.kill(server.pid, signal.SIGHUP)
        await _until(lambda: "the settings stay as they are" in server.tail())
        assert await name() == "two"
        assert (await relay.post(letter)).code == "stamp-required"


async def test_the_command_reaches_a_mint_alone(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pennypost office reload`, as for every role; a mark of before its start is none, a bad file changes nothing."""
    given = {"data_dir": str(tmp_path), "database_url": address, "role": "mint", "play_settle_after": "0"}
    monkeypatch.setenv("PENNYPOST_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PENNYPOST_DATABASE_URL", address)

    def command() -> None:
        office_commands(["reload", "--json"], standalone_mode=False)

    def bad() -> Settings:
        loads.append("bad")
        raise ConfigurationError("a mistake")

    loads: list[str] = []
    for start in range(2):
        service = await Service.open(load_settings({}, **given), in_process=True)
        try:
            service.load = lambda: load_settings({}, **given, name="another", max_mint=7)
            transport = httpx.ASGITransport(app=service.asgi)  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url="http://mint") as http:

                async def name() -> str:
                    return (await http.get("/v1/info")).json()["name"].removesuffix(" (play money)")

                assert await name() == "pennypost"
                await asyncio.to_thread(command)
                async with asyncio.timeout(20):
                    while await name() != "another":
                        await asyncio.sleep(0.02)
                assert service.settings.max_mint == 7
                if start == 0:
                    service.load = bad
                    await asyncio.to_thread(command)
                    await _until(lambda: loads == ["bad"])
                    assert await name() == "another"
        finally:
            await service.close()


# --- marks and bans, known to every process


async def test_a_mark_reaches_every_process(tmp_path: Path, postgres_url: str) -> None:
    async with open_house(tmp_path, postgres_url) as one, open_house(tmp_path, postgres_url) as two:
        heard: list[str] = []
        one.office.on_reload = lambda: heard.append("one")
        two.office.on_reload = lambda: heard.append("two")
        await one.office.database.write(touch_on, RELOAD)
        await _until(lambda: sorted(heard) == ["one", "two"])


async def test_a_start_is_no_reload(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await house.office.database.write(touch_on, RELOAD)
    async with open_house(tmp_path) as house:
        heard: list[str] = []
        house.office.on_reload = lambda: heard.append("x")
        revision = house.office.revision
        await house.office.database.write(touch_on, "other")
        await _until(lambda: house.office.revision > revision)
        assert heard == []


async def test_bans_reach_every_process(tmp_path: Path, postgres_url: str) -> None:
    """A banned author, event and kind are refused with the stamp untouched; taken back, they are taken."""
    author, other = Author(), Author()
    event = other.sign(1)
    bans = [("pubkey", author.pubkey, "banned"), ("event", event.id, "banned"), ("kind", "7", "kind")]
    events = {"pubkey": author.sign(1), "event": event, "kind": other.sign(7)}
    async with open_house(tmp_path, postgres_url) as one, open_house(tmp_path, postgres_url) as two:
        for subject, value, _ in bans:
            await one.office.database.write(ban_on, Ban(subject, value, "spam", 5))  # type: ignore[arg-type]
        one.office.look_at_marks()
        for house in (one, two):
            await _until(lambda house=house: house.office.policy.bans._kinds == {7})
            async with house.relay() as relay:
                for subject, _, code in bans:
                    proof = house.purse.proof()
                    assert (await relay.post(events[subject], house.purse.token(proof))).code == code
                    assert await house.spent(proof) == [False]
        assert [ban[:3] for ban in await two.office.database.read(bans_on)] == sorted(
            [(subject, value, "spam") for subject, value, _ in bans], key=lambda ban: _order(ban[0], ban[1])
        )
        for subject, value, _ in bans:
            assert await two.office.database.write(unban_on, subject, value) is True
            assert await two.office.database.write(unban_on, subject, value) is False
        two.office.look_at_marks()
        await _until(lambda: one.office.policy.bans._none)
        async with one.relay() as relay:
            await one.pay(relay, list(events.values()))


def _order(subject: str, value: str) -> bytes:
    return int(value).to_bytes(2, "big") if subject == "kind" else bytes.fromhex(value)


# --- the end


async def test_a_process_that_stops_is_not_ready(sqlite_house: House) -> None:
    async with httpx.AsyncClient(base_url=sqlite_house.url, trust_env=False) as http:
        assert (await http.get("/readyz")).status_code == 200
        await sqlite_house.service.drain()
        answer = await http.get("/readyz")
        assert answer.status_code == 503 and "[stopping]" in answer.json()["detail"]
        assert (await http.get("/healthz")).status_code == 200


async def test_sigterm_under_load_leaves_nobody_without_an_answer(
    tmp_path: Path, database_url: str, serve: Callable[..., Server]
) -> None:
    """Every letter gets its OK, or the connection ends; what got OK:true is there afterwards."""
    server = serve(database_url=database_url)
    purse = await _purse(tmp_path / "data", server, database_url)
    accepted: list[str] = []

    async def client() -> None:
        with contextlib.suppress(ConnectionResetError):
            async with Relay(server.websocket_url) as relay:
                while True:
                    letters = [Author().sign(1) for _ in range(20)]

                    async def post(letter: Any) -> None:
                        answer = await relay.post(letter, purse.token())
                        assert answer.accepted, answer
                        accepted.append(letter.id)

                    done = await asyncio.gather(*map(post, letters), return_exceptions=True)
                    for each in done:
                        if isinstance(each, BaseException):
                            raise each

    clients = [asyncio.create_task(client()) for _ in range(8)]
    await _until(lambda: len(accepted) > 100, 60)
    assert await asyncio.to_thread(server.stop) == 0
    await asyncio.wait_for(asyncio.gather(*clients), 30)
    server.start()
    async with Relay(server.websocket_url) as relay:
        for start in range(0, len(accepted), 500):
            part = accepted[start : start + 500]
            assert {event["id"] for event in await relay.fetch({"ids": part})} == set(part)
