"""kill -9 of the real command line at every message to a real server process: nothing is lost, nothing paid twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from pennypost import AsyncClient, orders
from pennypost.outbox import waiting_on
from tests.sdk.deadly_proxy import DeadlyProxy, When
from tests.support.server import Server, clean_environment

pytestmark = pytest.mark.slow
MOST_STEPS = 40
PROGRAM = "from pennypost.cli import main; main()"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeadlyProxy]:
    """A server process behind a deadly proxy, under whose address it goes."""
    found = DeadlyProxy()
    with Server(tmp_path_factory.mktemp("server"), settings={"PUBLIC_URL": found.url}) as server:
        found.server_port = server.port
        yield found
        found.close()


def run(proxy: DeadlyProxy, home: Path, *arguments: str) -> tuple[str, bool]:
    """The output of a command, and whether it lived."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments, "--home", str(home), "--office", proxy.url, "--json"],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    proxy.victim(process.pid)
    output, talk = process.communicate(timeout=60)
    proxy.peace()
    assert process.returncode == (-9 if proxy.killed else 0), talk
    return output, not proxy.killed


async def each_step(
    proxy: DeadlyProxy,
    when: When,
    folder: Path,
    prepare: Callable[[Path], Awaitable[list[str]]],
    verify: Callable[[Path, str, bool], Awaitable[None]],
) -> int:
    """Kill at step 0, 1, 2 … until the command lives through all of its steps: how many there were."""
    for step in range(MOST_STEPS):
        home = folder / str(step)
        arguments = await prepare(home)
        proxy.plan(step, when)
        output, lived = run(proxy, home, *arguments)
        await verify(home, output, lived)
        if lived:
            return step
    pytest.fail("the command had no end")


@pytest.mark.parametrize("when", ["before", "after"])
async def test_buying(proxy: DeadlyProxy, tmp_path: Path, when: When) -> None:
    async def prepare(home: Path) -> list[str]:
        return ["wallet", "buy", "10"]

    async def verify(home: Path, output: str, lived: bool) -> None:
        async with AsyncClient(proxy.url, home) as alice:
            ordered = len(await alice._store.run(orders.open_purchases_on, proxy.url))
            had = await alice.stamps.balance()
            assert had == 10 or not lived
            if ordered:
                await alice.stamps.buy(10)
            assert await alice.stamps.balance() == (10 if ordered else had)
            assert (await alice.stamps.check()).stamps == (10 if ordered else had)

    assert await each_step(proxy, when, tmp_path, prepare, verify) >= 5


async def without_change(proxy: DeadlyProxy, home: Path) -> None:
    """A home with 68 stamps, of which 4 are single ones."""
    async with AsyncClient(proxy.url, home) as alice:
        await alice.stamps.buy(128)
        await alice.stamps.send(60)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_change_and_a_token(proxy: DeadlyProxy, tmp_path: Path, when: When) -> None:
    async def prepare(home: Path) -> list[str]:
        await without_change(proxy, home)
        return ["wallet", "send", "10"]

    async def verify(home: Path, output: str, lived: bool) -> None:
        async with AsyncClient(proxy.url, home) as alice, AsyncClient(proxy.url, home.with_suffix(".bob")) as bob:
            check = await alice.stamps.check()
            handed = [each for each in check.tokens if each.amount == 10]
            assert check.stamps + 10 * len(handed) == 68 and (check.lost, check.problems) == (0, ())
            assert len(handed) <= 1 and (handed or not lived)
            for each in handed:
                assert await bob.stamps.receive(each.token) == 10

    assert await each_step(proxy, when, tmp_path, prepare, verify) >= 2


@pytest.mark.parametrize("when", ["before", "after"])
async def test_receiving(proxy: DeadlyProxy, tmp_path: Path, when: When) -> None:
    async with AsyncClient(proxy.url, tmp_path / "alice") as alice:
        await alice.stamps.buy(64)
        tokens: list[str] = []

        async def prepare(home: Path) -> list[str]:
            tokens.append(await alice.stamps.send(3))
            return ["wallet", "receive", tokens[-1]]

        async def verify(home: Path, output: str, lived: bool) -> None:
            async with AsyncClient(proxy.url, home) as bob:
                check = await bob.stamps.check()
                assert check.stamps in (0, 3) and (check.lost, check.problems) == (0, ())
                if not check.stamps:
                    assert await bob.stamps.receive(tokens[-1]) == 3

        assert await each_step(proxy, when, tmp_path, prepare, verify) >= 2


@pytest.mark.parametrize("when", ["before", "after"])
async def test_sending_a_letter(proxy: DeadlyProxy, tmp_path: Path, when: When) -> None:
    async with AsyncClient(proxy.url, tmp_path / "bob") as bob:

        async def prepare(home: Path) -> list[str]:
            async with AsyncClient(proxy.url, home) as alice:
                await alice.stamps.buy(3)
            return ["send", bob.npub, str(home)]

        async def verify(home: Path, output: str, lived: bool) -> None:
            async with AsyncClient(proxy.url, home) as alice:
                written = len(await alice._store.run(waiting_on, proxy.url))
                receipts = await alice.flush()
                assert len(receipts) == written and all(each.accepted for each in receipts)
                check = await alice.stamps.check()
            arrived = [mail.text async for mail in bob.inbox()]
            assert arrived == [str(home)] * len(arrived) and len(arrived) == 3 - check.stamps
            assert (check.reserved, check.lost, check.problems) == (0, 0, ())
            assert arrived or (not lived and not written)

        assert await each_step(proxy, when, tmp_path, prepare, verify) >= 3


async def test_the_same_command_again_with_a_key(proxy: DeadlyProxy, tmp_path: Path) -> None:
    async with AsyncClient(proxy.url, tmp_path / "bob") as bob:

        async def prepare(home: Path) -> list[str]:
            async with AsyncClient(proxy.url, home) as alice:
                await alice.stamps.buy(3)
            return ["send", bob.npub, str(home), "--once", "k"]

        async def verify(home: Path, output: str, lived: bool) -> None:
            _, again = run(proxy, home, "send", bob.npub, str(home), "--once", "k")
            async with AsyncClient(proxy.url, home) as alice:
                check = await alice.stamps.check()
                assert await alice.outbox() == []
            assert again and [mail.text async for mail in bob.inbox()] == [str(home)] and check.stamps == 2
            assert (check.reserved, check.lost, check.problems) == (0, 0, ())

        assert await each_step(proxy, "after", tmp_path, prepare, verify) >= 3


@pytest.mark.parametrize("when", ["before", "after"])
async def test_reading(proxy: DeadlyProxy, tmp_path: Path, when: When) -> None:
    async with AsyncClient(proxy.url, tmp_path / "alice") as alice:
        await alice.stamps.buy(64)

        async def prepare(home: Path) -> list[str]:
            async with AsyncClient(proxy.url, home) as bob:
                await alice.send(bob.npub, "one")
                await alice.send(bob.npub, "two")
            return ["inbox"]

        async def verify(home: Path, output: str, lived: bool) -> None:
            shown = [json.loads(line)["text"] for line in output.splitlines()]
            async with AsyncClient(proxy.url, home) as bob:
                later = [mail.text async for mail in bob.inbox()]
            # Killed between showing and remembering, it shows a letter again; it never loses one.
            assert {*shown, *later} == {"one", "two"} and not (lived and later)

        assert await each_step(proxy, when, tmp_path, prepare, verify) >= 2
