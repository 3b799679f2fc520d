"""What a newcomer sees, with nothing but the built wheel: the four commands of the tutorial, and the demo."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.installed import PROJECT
from tests.support.server import Server, clean_environment

# the first of them builds the wheel and installs it
pytestmark = pytest.mark.timeout(400)

Pennypost = Callable[..., "subprocess.CompletedProcess[str]"]


def runner(program: Path, folder: Path) -> Pennypost:
    """Runs `program` in a folder; the exit code must be `code`, or any but 0 and 1 where it is None."""

    def run(*words: str, code: int | None = 0, office: Server | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [program, *words],
            cwd=folder,
            env=clean_environment(**({"PENNYPOST_OFFICE": office.url} if office else {})),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in done.stderr, done.stderr
        if code is None:
            assert done.returncode not in (0, 1), words
        else:
            assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture
def pennypost(installed: Path, tmp_path: Path) -> Pennypost:
    """Runs the installed `pennypost` in an empty folder."""
    return runner(installed / "pennypost", tmp_path)


@pytest.fixture
def office(serve: Callable[..., Server], installed: Path) -> Server:
    """`pennypost up` of the installed wheel."""
    return serve(program=[installed / "pennypost"])


def _lines(done: subprocess.CompletedProcess[str]) -> list[Any]:
    return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]


def test_the_four_commands(office: Server, pennypost: Pennypost) -> None:
    bob = re.findall(r"npub1[02-9ac-hj-np-z]{58}", pennypost("keys", "new", "--home", "bob", office=office).stdout)
    assert len(set(bob)) == 1
    pennypost("wallet", "buy", "10", "--home", "alice", office=office)
    pennypost("send", bob[0], "hello Bob", "--home", "alice", office=office)
    assert "hello Bob" in pennypost("inbox", "--home", "bob", office=office).stdout
    (wallet,) = _lines(pennypost("wallet", "balance", "--json", "--home", "alice", office=office))
    assert wallet["balance"] == 9


def test_keys_and_stamps_survive_a_restart_of_everything(office: Server, pennypost: Pennypost) -> None:
    (bob,) = _lines(pennypost("keys", "new", "--json", "--home", "bob", office=office))
    pennypost("wallet", "buy", "3", "--home", "alice", office=office)
    office.kill()
    office.start()
    pennypost("send", bob["npub"], "before", "--home", "alice", office=office)
    office.kill()
    office.start()
    pennypost("send", bob["npub"], "after", "--home", "alice", office=office)
    letters = _lines(pennypost("inbox", "--json", "--home", "bob", office=office))
    assert [letter["text"] for letter in letters] == ["before", "after"]


def test_a_token_goes_from_one_wallet_to_another(office: Server, pennypost: Pennypost) -> None:
    pennypost("wallet", "buy", "8", "--home", "alice", office=office)
    (sent,) = _lines(pennypost("wallet", "send", "3", "--json", "--home", "alice", office=office))
    assert (sent["amount"], sent["token"][:6]) == (3, "cashuB")
    pennypost("wallet", "receive", sent["token"], "--home", "carol", office=office)
    for home, balance in (("alice", 5), ("carol", 3)):
        (wallet,) = _lines(pennypost("wallet", "balance", "--json", "--home", home, office=office))
        assert wallet["balance"] == balance


def test_refusals_are_sentences_with_exit_codes(office: Server, pennypost: Pennypost) -> None:
    (bob,) = _lines(pennypost("keys", "new", "--json", "--home", "bob", office=office))
    for words in (
        ("send", bob["npub"], "no stamps yet"),
        ("send", "npub1nobody", "x"),
        ("wallet", "receive", "cashuBgarbage"),
        ("wallet", "buy", "0"),
    ):
        assert pennypost(*words, "--home", "alice", code=None, office=office).stderr.strip(), words


def test_the_demo(installed: Path, tmp_path: Path) -> None:
    script = shutil.copy(PROJECT / "docs" / "tutorial" / "demo.py", tmp_path)
    done = subprocess.run(
        [installed / "python", script],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Bob read 'hello Bob'" in done.stdout
    assert len(re.findall(r"\d+\.\d\d s ", done.stdout)) >= 6


def test_the_wheel_holds_what_it_should(installed: Path) -> None:
    (wheel,) = (installed.parents[1]).glob("pennypost-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    packages = {name.split("/")[0] for name in names}
    assert {"pennypost", "pennypost_mint", "pennypost_postoffice", "pennypost_migrations"} <= packages
    assert not packages & {"tests", "docs"}
    assert "pennypost/py.typed" in names
    assert any(name.startswith("pennypost_migrations/versions/") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_sdk_alone_says_what_to_install(installed_sdk: Path, tmp_path: Path) -> None:
    """Without the server extra, `up` and the sandbox answer with a sentence."""
    alone = runner(installed_sdk / "python", tmp_path)
    sandbox = "import pennypost\ntry: pennypost.sandbox()\nexcept pennypost.PennypostError as error: print(error.code)"
    assert alone("-c", sandbox).stdout.strip() == "server-extra"
    assert "pennypost[server]" in runner(installed_sdk / "pennypost", tmp_path)("up", code=None).stderr
