"""A child process that answers questions: small programs that do it well, badly, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pennypost.protocol.errors import LightningUnavailable
from pennypost_mint.lightning import child as children
from pennypost_mint.lightning.child import Child

START = (
    "import json, os, sys\nfirst = json.loads(sys.stdin.readline())\nsay = lambda v: print(json.dumps(v), flush=True)\n"
)
ECHO = START + textwrap.dedent(
    """
    say({"ready": True})
    for line in sys.stdin:
        asked = json.loads(line)
        if asked.get("die"):
            os._exit(3)
        if asked.get("say"):
            print(asked["say"], flush=True)
        elif not asked.get("silent"):
            say({"id": asked["id"], "first": first, "asked": asked, "environment": dict(os.environ), "cwd": os.getcwd(),
                 "arguments": sys.argv, "files": os.listdir()})
    """
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "BACK_OFF", (0.01, 0.05))


@pytest.fixture
async def open_child() -> AsyncIterator[Callable[[str], Child]]:
    opened: list[Child] = []

    def open_(program: str) -> Child:
        opened.append(Child([sys.executable, "-I", "-c", program], {"key": "secret"}))
        return opened[-1]

    yield open_
    for each in opened:
        await each.close()


def process(child: Child) -> Any:
    assert child._running is not None
    return child._running._process


async def test_it_answers_and_is_started_once(open_child: Callable[[str], Child]) -> None:
    child = open_child(ECHO)
    answers = await asyncio.gather(*(child.ask({"number": number}) for number in range(20)))
    assert [answer["asked"]["number"] for answer in answers] == list(range(20))
    assert answers[0]["first"] == {"key": "secret"}
    assert len({answer["cwd"] for answer in answers}) == 1


async def test_its_world_is_empty_and_its_secrets_are_not_in_it(
    open_child: Callable[[str], Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PENNYPOST_NWC_URI", "MINT_PRIVATE_KEY", "PYTHONPATH", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "of the parent")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:1")
    child = open_child(ECHO)
    answer = await child.ask({})
    environment, folder = answer["environment"], answer["cwd"]
    assert environment["HOME"] == folder and answer["files"] == []
    assert environment["HTTPS_PROXY"] == "http://proxy.example:1"
    # LC_CTYPE is set by the interpreter itself
    allowed = {"HOME", "LANG", "LC_CTYPE", *children.PASSED_ON}
    assert {name for name in environment if not name.lower().endswith("_proxy")} <= allowed
    assert "secret" not in str(environment) + str(answer["arguments"])
    await child.close()
    assert not Path(folder).exists()


@pytest.mark.parametrize("how", ["it dies", "it is killed", "garbage", "no object", "a line that is too long"])
async def test_one_that_ends_is_told_and_started_again(open_child: Callable[[str], Child], how: str) -> None:
    child = open_child(ECHO)
    before = (await child.ask({}))["cwd"]
    waiting = [asyncio.ensure_future(child.ask({"silent": True})) for _ in range(5)]
    await asyncio.sleep(0)
    if how == "it is killed":
        process(child).send_signal(signal.SIGKILL)
    else:
        say = {"garbage": "{", "no object": "[1]", "a line that is too long": "x" * (children.LINE + 1)}.get(how)
        order = {"die": True} if say is None else {"say": say}
        waiting.append(asyncio.ensure_future(child.ask(order)))
    for each in waiting:
        with pytest.raises(LightningUnavailable):
            await each
    assert (await child.ask({}))["cwd"] != before


async def test_answers_to_nothing_are_passed_over(open_child: Callable[[str], Child]) -> None:
    child = open_child(ECHO)
    for say in ('{"id": 99}', '{"id": "x"}', "{}", '{"ready": true}', '{"id": [1]}'):
        waiting = asyncio.ensure_future(child.ask({"say": say}))
        await asyncio.sleep(0)
        assert (await child.ask({"number": 1}))["asked"]["number"] == 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


@pytest.mark.parametrize("how", ["silent", "frozen"])
async def test_one_that_does_not_answer_is_started_anew(
    open_child: Callable[[str], Child], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    child = open_child(ECHO)
    await child.ask({})
    old = process(child)
    if how == "frozen":
        old.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(children, "ANSWER_SECONDS", 0.2)
    # less than the limit it has of its own
    async with asyncio.timeout(15):
        with pytest.raises(LightningUnavailable):
            await child.ask({"silent": True})
    monkeypatch.setattr(children, "ANSWER_SECONDS", 20.0)
    assert (await child.ask({}))["asked"]
    assert old.returncode == -signal.SIGKILL


async def test_a_refusal_is_no_answer(open_child: Callable[[str], Child]) -> None:
    child = open_child(ECHO)
    with pytest.raises(LightningUnavailable) as failed:
        await child.ask({"say": '{"id": 1, "error": "secret words"}'})
    assert "secret" not in str(failed.value)


NEVER = [
    ("it ends at once", "pass"),
    ("it fails", "raise SystemExit(1)"),
    ("it says something else", START + "print('hello', flush=True); sys.stdin.read()"),
]


@pytest.mark.parametrize("program", [row[1] for row in NEVER], ids=[row[0] for row in NEVER])
async def test_one_that_does_not_start_is_left_in_peace(
    open_child: Callable[[str], Child], monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    child = open_child(program)
    child._pause = 30.0
    with pytest.raises(LightningUnavailable):
        await child.ask({})
    # one that was started now would answer
    child._command = [sys.executable, "-I", "-c", ECHO]
    results = await asyncio.gather(*(child.ask({}) for _ in range(20)), return_exceptions=True)
    assert {type(result) for result in results} == {LightningUnavailable}
    child._not_before = 0.0
    assert await child.ask({})


async def test_one_that_never_gets_ready(open_child: Callable[[str], Child], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "START_SECONDS", 0.3)
    with pytest.raises(LightningUnavailable):
        await open_child("import sys; sys.stdin.read()").ask({})


async def test_a_program_that_is_not_there() -> None:
    child = Child(["/nowhere/python"], {})
    with pytest.raises(LightningUnavailable):
        await child.ask({})
    await child.close()


async def test_too_many_questions_at_once(open_child: Callable[[str], Child], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "WAITING", 3)
    child = open_child(ECHO)
    await child.ask({})
    waiting = [asyncio.ensure_future(child.ask({"silent": True})) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(LightningUnavailable):
        await child.ask({})
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert await child.ask({})


async def test_closing_while_it_starts(open_child: Callable[[str], Child]) -> None:
    child = open_child("import sys; sys.stdin.read()")
    asking = asyncio.ensure_future(child.ask({}))
    while child._starting is None:
        await asyncio.sleep(0)
    await child.close()
    with pytest.raises(LightningUnavailable):
        await asking


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    """kill -9 of the parent: stdin ends, and so does the child."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import asyncio, sys\n"
        "from pennypost_mint.lightning.child import Child\n"
        "async def main():\n"
        f"    child = Child([sys.executable, '-I', '-c', {ECHO!r}], {{}})\n"
        "    await child.ask({})\n"
        "    print(child._running._process.pid, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    found = psutil.Process(int(parent.stdout.readline()))
    folder = Path(found.cwd())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    with contextlib.suppress(psutil.NoSuchProcess):
        deadline = time.monotonic() + 30
        # whoever adopted it may take note late that it has ended
        while found.is_running() and found.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    folder.rmdir()
