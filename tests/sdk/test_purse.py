"""Stamps of several mints: bought, counted, received, chosen by mint; nothing is asked of one that is not known."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from pennypost import AsyncClient, Client, Sandbox
from pennypost.ledger import Balance
from pennypost.protocol.errors import (
    InvalidInput,
    NotEnoughStamps,
    OfficeMisbehaves,
    OfficeUnreachable,
    OtherMint,
)
from pennypost.protocol.token import Token, encode_token, parse_token
from pennypost.stamps import Check
from pennypost.transport import BODY_LIMIT, FRAME_LIMIT, TIMEOUT, NetworkTransport, Response, Transport, WebSocket
from tests.support.server import Server

Make = Callable[..., AsyncClient]


class Roads:
    """A transport with the sandbox at its address and the network behind all others; it remembers who was asked."""

    def __init__(self, office: Sandbox) -> None:
        self.office, self.memory, self.network = office.url, office.transport(), NetworkTransport()
        self.asked: list[str] = []

    def _road(self, url: str) -> Transport:
        self.asked.append(url)
        return self.memory if url.startswith(self.office) else self.network

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes = b"",
        limit: int = BODY_LIMIT, timeout: float = TIMEOUT,
    ) -> Response:  # fmt: skip
        return await self._road(url).request(method, url, headers=headers, body=body, limit=limit, timeout=timeout)

    async def websocket(self, url: str, *, limit: int = FRAME_LIMIT, timeout: float = TIMEOUT) -> WebSocket:
        return await self._road(url).websocket(url, limit=limit, timeout=timeout)

    async def close(self) -> None:
        await self.memory.close()
        await self.network.close()


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a second mint, with a post office that takes its stamps alone."""
    with Server(tmp_path_factory.mktemp("other"), settings={"PLAY_SETTLE_AFTER": "0"}) as server:
        yield server.url


@pytest.fixture
async def make(office: Sandbox) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        def made(home: Path | None = None, at: str | None = None, **options: Any) -> AsyncClient:
            """A client of the sandbox, or of the office at another address with the sandbox's mint."""
            roads = Roads(office)
            if at is None:
                client = AsyncClient(office, home, transport=roads, **options)
            else:
                client = AsyncClient(at, home, mint=office.url, transport=roads, **options)
            stack.push_async_callback(client.close)
            return client

        yield made


async def test_buy_count_and_receive_by_mint(make: Make, office: Sandbox, other: str, tmp_path: Path) -> None:
    alice, bob = make(tmp_path / "alice"), make(tmp_path / "bob")
    assert await alice.purse.mints() == [office.url]
    assert await alice.purse.add(other + "/") == other and await alice.purse.add(other) == other
    assert await alice.purse.mints() == [office.url, other]
    await alice.stamps.buy(2)
    there = await alice.purse.at(other)
    await there.buy(5)
    assert await alice.purse.balances() == {office.url: Balance(2), other: Balance(5)}

    token, own = await there.send(3), await alice.stamps.send(1)
    asked = len(bob._transport.asked)  # type: ignore[attr-defined]
    with pytest.raises(OtherMint) as refused:
        await bob.purse.receive(token)
    assert "wallet mints add" in refused.value.remedy
    assert not [url for url in bob._transport.asked[asked:] if url.startswith(other)]  # type: ignore[attr-defined]
    await bob.purse.add(other)
    assert (await bob.purse.receive(token), await bob.purse.receive(own)) == (3, 1)
    assert await bob.purse.balances() == {office.url: Balance(1), other: Balance(3)}
    assert await alice.purse.balances() == {office.url: Balance(1, in_tokens=1), other: Balance(2, in_tokens=3)}

    checks = await alice.purse.check()
    assert [(url, each.stamps, each.tokens) for url, each in checks.items() if isinstance(each, Check)] == [
        (office.url, 1, ()),
        (other, 2, ()),
    ]


async def test_two_ways_to_one_mint_are_one_wallet(make: Make, tmp_path: Path) -> None:
    alice = make(tmp_path / "alice")
    assert await alice.purse.at() is alice.stamps is await alice.purse.at(alice.stamps.mint.url)


async def test_a_letter_takes_stamps_that_its_office_accepts(
    make: Make, office: Sandbox, other: str, tmp_path: Path
) -> None:
    alice, bob = make(tmp_path / "alice", at=other), make(tmp_path / "bob", at=other)
    await alice.stamps.buy(1)
    with pytest.raises(OtherMint):
        await alice.send(bob.npub, "stamped by nobody")
    await alice.purse.add(other)
    with pytest.raises(NotEnoughStamps):
        await alice.send(bob.npub, "stamped by nobody")
    await (await alice.purse.at(other)).buy(2)
    receipt = await alice.send(bob.npub, "stamped by the other mint")
    assert receipt.accepted and receipt.stamps == 1
    assert await alice.purse.balances() == {office.url: Balance(1), other: Balance(1)}
    assert [mail.text async for mail in bob.inbox()] == ["stamped by the other mint"]


async def test_everything_is_restored_from_one_seed(make: Make, office: Sandbox, other: str, tmp_path: Path) -> None:
    alice = make(tmp_path / "alice")
    await alice.stamps.buy(2)
    await alice.purse.add(other)
    await (await alice.purse.at(other)).buy(3)
    seed = (tmp_path / "alice" / "wallet.seed").read_text()
    again = make(tmp_path / "again")
    await again.purse.add(other)
    assert await again.purse.restore(seed) == {office.url: 2, other: 3}
    assert await again.purse.balances() == {office.url: Balance(2), other: Balance(3)}


async def test_a_mint_that_is_away_stops_no_other(make: Make, office: Sandbox, tmp_path: Path) -> None:
    with Server(tmp_path / "gone", settings={"PLAY_SETTLE_AFTER": "0"}) as server:
        gone = server.url
        alice = make(tmp_path / "alice")
        await alice.stamps.buy(1)
        await alice.purse.add(gone)
        await (await alice.purse.at(gone)).buy(4)
    checks = await alice.purse.check()
    own, away = checks[office.url], checks[gone]
    assert isinstance(own, Check) and own.stamps == 1 and isinstance(away, OfficeUnreachable)
    restored = await alice.purse.restore()
    assert restored[office.url] == 0 and isinstance(restored[gone], OfficeUnreachable)
    assert await alice.purse.balances() == {office.url: Balance(1), gone: Balance(4)}
    assert (await alice.send(alice.npub, "x")).accepted


async def test_which_mints_may_come_and_go(make: Make, office: Sandbox, other: str, tmp_path: Path) -> None:
    alice = make(tmp_path / "alice")
    for bad, error in (("ftp://x", InvalidInput), ("http://127.0.0.1:1", OfficeUnreachable),
                       (f"{other}/nowhere", OfficeMisbehaves)):  # fmt: skip
        with pytest.raises(error):
            await alice.purse.add(bad)
        with pytest.raises((OtherMint, InvalidInput)):
            await alice.purse.at(bad)
    await alice.purse.add(other)
    there = await alice.purse.at(other)
    await there.buy(1)
    for kept in (other, office.url):
        with pytest.raises(InvalidInput):
            await alice.purse.remove(kept)
    token = await there.send(1)
    with pytest.raises(InvalidInput):
        await alice.purse.remove(other)
    taker = make()
    await taker.purse.add(other)
    await taker.purse.receive(token)
    await alice.purse.check()
    await alice.purse.remove(other)
    assert await alice.purse.mints() == [office.url]
    with pytest.raises(OtherMint):
        await alice.purse.remove(other)


async def test_a_token_that_only_looks_like_a_known_mints(make: Make, other: str) -> None:
    alice, bob = make(), make()
    for each in (alice, bob):
        await each.purse.add(other)
    there = await alice.purse.at(other)
    await there.buy(1)
    token = parse_token(await there.send(1))
    for name in (
        other[:16] + ":1",
        other + "/x",
        other.replace("127.0.0.1", "127.0.0.1.example"),
        "https://bank.example",
    ):
        with pytest.raises(OtherMint):
            await bob.purse.receive(encode_token(Token(name, "sat", token.proofs)))
    assert await bob.purse.receive(encode_token(token)) == 1


def test_the_sync_face(office: Sandbox, other: str) -> None:
    with Client(office) as alice:
        assert alice.purse.mints() == list(alice.purse.balances()) == [office.url]
        alice.purse.at().buy(1)
        assert alice.purse.receive(alice.stamps.send(1)) == 1
        assert alice.purse.check()[office.url] == Check(1, 0, 0, 0, ())
        assert alice.purse.restore()[office.url] == 0


def test_the_command_line(
    other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import json
    import sys

    from pennypost.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["pennypost", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().out

    with Server(tmp_path / "server", settings={"PLAY_SETTLE_AFTER": "0"}) as server:
        alice = ("--home", "alice", "--office", server.url)
        token = json.loads(_bought(run, "carol", other))["token"]
        assert run("wallet", "receive", token, *alice)[0] == 4
        assert run("wallet", "mints", "add", other, *alice) == (0, f"{other}\n")
        assert run("wallet", "receive", token, *alice)[0] == 0
        code, out = run("wallet", "balance", "--json", *alice)
        assert code == 0 and [(each["mint"], each["balance"]) for each in json.loads(out)["mints"]] == [
            (server.url, 0),
            (other, 2),
        ]
        assert run("wallet", "mints", "list", *alice) == (0, f"{server.url}\n{other}\n")
        lines = [json.loads(line) for line in run("wallet", "check", "--json", *alice)[1].splitlines()]
        assert [(each["mint"], each["balance"]) for each in lines] == [(server.url, 0), (other, 2)]
        assert run("wallet", "mints", "remove", other, *alice)[0] == 3


def _bought(run: Callable[..., tuple[int, str]], home: str, url: str) -> str:
    assert run("wallet", "buy", "2", "--home", home, "--office", url)[0] == 0
    return run("wallet", "send", "2", "--json", "--home", home, "--office", url)[1]
