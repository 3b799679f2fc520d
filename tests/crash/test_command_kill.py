"""kill -9 of `pennypost notice send`, `pay send`, `channel post`, `offer make` at steps of their journal, and the same
command again: one payment, one event, one stamp for it.

CRASH_ROUNDS is the number of steps at which each is killed: one in the middle in CI, spread over all with more, and
every one by `make crash`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from pennypost import AsyncClient, ledger
from pennypost.play import FUNDS, PlayBook
from tests.crash.commands import NEVER, Commands
from tests.sdk.test_paid_mail import answering
from tests.support.server import Server, clean_environment

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "1"))
STAMPS = 8
MIDDLE = 8
"""A step that every one of these commands comes to."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    opened = Commands()
    yield opened
    opened.end()


class Stage:
    """alice, whose command is killed, and bob, with wallets in one book of play money."""

    def __init__(self, folder: Path, server: Server, commands: Commands) -> None:
        folder.mkdir()
        self.home, self.url, self._commands = folder / "alice", server.url, commands
        self.link, self._output = f"play:{folder / 'book'}?alice", folder / "output"
        self.book = PlayBook(folder / "book")
        self.wallet, self.bob = self.book.wallet("alice"), AsyncClient(server.url, folder / "bob", lightning=self.name)
        self.channel = ""

    @property
    def name(self) -> str:
        return self.link.replace("?alice", "?bob")

    @property
    def node(self) -> str:
        return self.book.wallet("bob").node.hex()

    async def prepare(self) -> None:
        async with AsyncClient(self.url, self.home) as alice:
            await alice.stamps.buy(STAMPS)
            news = await alice.channels.create("News")
            await alice.channels.invite(news.id, self.bob.npub)
            self.channel = news.id
        assert [post async for post in self.bob.channels.read()] == []
        await self.bob.channels.join(self.channel)
        await self.bob.stamps.buy(STAMPS)

    async def run(self, arguments: list[str], step: int = NEVER) -> tuple[int, int]:
        environment = clean_environment(PENNYPOST_HOME=str(self.home), PENNYPOST_OFFICE=self.url)
        environment["PENNYPOST_WALLET"] = self.link
        done = await asyncio.to_thread(self._commands.run, arguments, environment, self._output, step)
        assert done[0] in (0, -9), self._output.read_text()
        return done

    async def spent(self) -> tuple[int, int]:
        """Stamps since `prepare`, and msat; nothing is reserved, lost or left in the outbox."""
        async with AsyncClient(self.url, self.home) as alice:
            assert await alice.outbox() == []
            check = await alice.stamps.check()
            assert (check.reserved, check.lost, check.problems, check.tokens) == (0, 0, (), ())
        return STAMPS - 1 - check.stamps, FUNDS - await self.wallet.balance()

    async def close(self) -> None:
        await self.bob.close()
        self.book.close()


async def mail(stage: Stage) -> list[str]:
    return [each.text async for each in stage.bob.inbox()]


async def posts(stage: Stage) -> list[str]:
    return [each.text async for each in stage.bob.channels.read()]


async def bought(stage: Stage) -> list[str]:
    """Every offer that bob has, bought."""
    return [(await stage.bob.offers.buy(each.id)).text for each in await stage.bob.offers.all()]


Command = Callable[[Stage], list[str]]
COMMANDS: dict[str, tuple[Command, Callable[[Stage], Awaitable[list[str]]], int, int]] = {
    "notice": (lambda s: ["notice", "send", s.bob.npub, "x", "--pay", s.node, "--sat", "3"], mail, 1, 3_000),
    "pay": (lambda s: ["pay", "send", s.bob.npub, "x", "--sat", "4"], mail, 2, 4_000),
    "held": (lambda s: ["pay", "send", s.bob.npub, "x", "--sat", "4", "--hold"], mail, 2, 4_000),
    "channel": (lambda s: ["channel", "post", s.channel, "x"], posts, 1, 0),
    "offer": (lambda s: ["offer", "make", "x", "--to", s.bob.npub, "--sat", "5"], bought, 2, -5_000),
}


@pytest.mark.timeout(150)
@pytest.mark.parametrize("name", COMMANDS)
async def test_the_same_command_after_kill_9_pays_and_posts_once(
    server: Server, commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(ledger, "READY", 0)
    command, arrived, stamps, msat = COMMANDS[name]

    async def once(number: int, step: int) -> tuple[int, int]:
        """Kill it at a step, run it again, and once more: what became of the first, and how many steps it had."""
        stage = Stage(tmp_path / str(number), server, commands)
        try:
            await stage.prepare()
            arguments = [*command(stage), "--once", "k", "--json"]
            async with answering(stage.bob, price=1):
                status, passed = await stage.run(arguments, step)
                # How often one waits for an answer differs from run to run: the last steps may not be reached.
                assert status == 0 or step < NEVER, (name, step)
                for _ in range(2):
                    assert (await stage.run(arguments))[0] == 0, (name, step)
            assert await arrived(stage) == ["x"], (name, step)
            assert await stage.spent() == (stamps, msat), (name, step)
        finally:
            await stage.close()
        return status, passed

    if ROUNDS == 1:
        assert await once(0, MIDDLE) == (-9, MIDDLE)
        return
    _, count = await once(0, NEVER)
    assert count > MIDDLE
    steps = range(count) if count <= ROUNDS else [count * (2 * part + 1) // (2 * ROUNDS) for part in range(ROUNDS)]
    for number, step in enumerate(steps, 1):
        await once(number, step)
