"""The sync face, and the first lines that anybody runs."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import pennypost
from pennypost import Client, NotEnoughStamps, Sandbox
from pennypost.client import AsyncClient
from pennypost.stamps import Stamps as AsyncStamps
from pennypost.sync import Stamps
from pennypost.threads import LoopThread


def test_the_first_lines(office: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    alice, bob = Client(office), Client(office)
    alice.stamps.buy(20)
    alice.send(bob.npub, "meet at nine")
    for mail in bob.inbox():
        print(mail.sender, mail.text)
    assert capsys.readouterr().out == f"{alice.npub} meet at nine\n"
    assert alice.stamps.balance() == 19
    alice.close()
    bob.close()


def test_the_docstring_of_the_package_is_these_lines(office: Sandbox) -> None:
    assert pennypost.__doc__ is not None
    lines = [line for line in pennypost.__doc__.splitlines() if "=" in line or line.startswith(("alice", "for"))]
    program = "\n".join(line for line in lines if "sandbox()" not in line)
    shown: list[tuple[str, str]] = []
    exec(program, {"Client": Client, "office": office, "print": lambda *each: shown.append(each)})
    assert [text for _, text in shown] == ["meet at nine"]
    gc.collect()


def test_every_verb(office: Sandbox, tmp_path: Path) -> None:
    with Client(office, tmp_path / "alice") as alice, Client(office) as bob:
        assert alice.stamps.order(5).amount == 5
        shown: list[int] = []
        assert alice.stamps.buy(5, on_invoice=lambda purchase: shown.append(purchase.amount)).state == "issued"
        assert shown == [5]
        assert bob.stamps.receive(alice.stamps.send(2)) == 2
        assert alice.stamps.summary().stamps == alice.stamps.balance() == 3
        assert alice.stamps.check().stamps == 3
        assert alice.stamps.restore() == 0
        assert alice.flush() == []
        assert alice.send(bob.npub, "x").accepted
        letters = bob.inbox()
        assert next(letters).text == "x"
        del letters
        assert [mail.text for mail in bob.inbox(again=True)] == ["x"]
        with pytest.raises(NotEnoughStamps):
            alice.stamps.send(50)
        assert "alice" in repr(alice) and repr(bob).startswith("Client(")


@pytest.mark.parametrize(("sync", "coroutines"), [(Client, AsyncClient), (Stamps, AsyncStamps)])
def test_both_faces_have_the_same_verbs(sync: type, coroutines: type) -> None:
    verbs = {name for name in vars(coroutines) if not name.startswith("_")} - {"identity"}
    assert verbs == {name for name in vars(sync) if not name.startswith("_")}


def test_closing_ends_the_thread(office: Sandbox) -> None:
    def ours() -> set[threading.Thread]:
        return {each for each in threading.enumerate() if each.name.startswith(("pennypost-c", "pennypost-st"))}

    # Those of clients that were given up before may end meanwhile.
    before = ours()
    client = Client(office)
    client.stamps.balance()
    assert len(ours() - before) == 2
    client.close()
    client.close()
    assert ours() <= before
    with pytest.raises(RuntimeError):
        client.stamps.balance()


def test_many_threads_share_a_client(office: Sandbox) -> None:
    with Client(office) as alice, Client(office) as bob:
        alice.stamps.buy(8)
        threads = [threading.Thread(target=alice.send, args=(bob.npub, str(number))) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(mail.text for mail in bob.inbox()) == [str(number) for number in range(8)]


def test_a_loop_does_not_wait_for_itself() -> None:
    thread = LoopThread("test")

    async def inner() -> None:
        thread.call(asyncio.sleep(0))

    with pytest.raises(RuntimeError):
        thread.call(inner())
    thread.stop()
    thread.stop()


async def test_inside_a_running_loop(office: Sandbox) -> None:
    async with AsyncClient(office) as alice:
        await alice.stamps.buy(1)
        assert await alice.stamps.balance() == 1
        assert repr(alice).startswith("AsyncClient(")


def test_nothing_is_said_at_exit_when_nobody_closed_anything() -> None:
    """Also where the interpreter takes its time between its executors and whatever is to be closed at exit."""
    program = """
import threading, time
threading._register_atexit(time.sleep, 1.5)
from pennypost import Client, sandbox
office = sandbox()
alice, bob = Client(office), Client(office)
alice.stamps.buy(20)
alice.send(bob.npub, "meet at nine")
for mail in bob.inbox():
    print(mail.text)
    break
del alice
letters = bob.inbox(watch=True, again=True)
print(next(letters).text)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "meet at nine\nmeet at nine\n", "")


def test_a_client_that_was_given_up_ends_its_thread(office: Sandbox) -> None:
    client = Client(office)
    client.stamps.balance()
    thread = client._thread
    del client
    gc.collect()
    thread._thread.join(60)
    assert not thread.running
