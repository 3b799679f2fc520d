"""Every command of the parser: its help, and a run of each with `--json`: JSON lines on stdout and nothing else."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer

from pennypost import cli
from pennypost.cli import app, front, main
from pennypost.cli.talk import bar, called
from tests.sdk.test_cli import Done, url

__all__ = ["url"]

Leaf = tuple[str, ...]
NO_HOME = {("keys", "watch"), ("offer", "judge"), ("completion",)}
"""Commands that need no keys: of the scan key on stdin, of evidence, of a shell."""
NO_JSON = {("completion",)}
"""What it prints is for a shell."""


ROOT = typer.main.get_command(app)


def leaves() -> dict[Leaf, Any]:
    """Our own commands, as the parser has them."""

    def below(command: Any, path: Leaf) -> Iterator[tuple[Leaf, Any]]:
        inner = getattr(command, "commands", None)
        if not inner:
            yield path, command
        for name, each in (inner or {}).items():
            yield from below(each, (*path, name))

    return dict(below(ROOT, ()))


LEAVES = leaves()


@pytest.mark.parametrize("leaf", LEAVES, ids=" ".join)
def test_help(leaf: Leaf) -> None:
    """What it does, an example of itself, the options that hold everywhere, a meaning for each option."""
    command = LEAVES[leaf]
    text = command.get_help(typer.Context(command, info_name=leaf[-1], terminal_width=100))
    assert any(f"pennypost {' '.join(leaf)}" in line for line in text.split("Examples:")[1].splitlines())
    options = {name for each in command.params for name in each.opts}
    assert ("--home" in options) == (leaf not in NO_HOME) and ("--json" in options) == (leaf not in NO_JSON)
    assert all(each.help for each in command.params)
    # What watches can be named either way.
    assert ("--watch" in options) == ("--follow" in options)


def test_every_command_is_on_its_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "commands.md").read_text()
    headings = [line.strip("#` ") + " " for line in page.splitlines() if line.startswith("## `pennypost ")]
    assert not [leaf for leaf in LEAVES if not any(f"pennypost {' '.join(leaf)} " in each for each in headings)]


@dataclass(frozen=True)
class Row:
    """One command of the day below; `{name}` stands for what an earlier one printed."""

    words: str
    home: str = "alice"
    stdin: str | bytes = ""
    code: int = 0
    keep: dict[str, str] = field(default_factory=dict[str, str])
    """Names for fields of the last line."""
    says: dict[str, Any] = field(default_factory=dict[str, Any])
    """Fields of the last line, with their values."""
    wallet: bool = False


NOT_UTF8 = b"\xff\xfe\n"
LINES = """
{{"to": "{bob}", "text": "first", "once": "1"}}
{{"to": "{bob}", "txt": "no letter"}}

{{"text": "nobody gets it"}}
{{"to": "{bob}", "text": "second", "once": "2"}}
"""

DAY = (
    Row("keys new", keep={"alice": "npub"}),
    Row("keys new", "bob", keep={"bob": "npub"}),
    Row("keys show --secret --qr", "bob", keep={"nsec": "nsec"}),
    Row("keys import -", "copy", "{nsec}\n", says={"npub": "{bob}"}),
    Row("keys import -", "other", NOT_UTF8, 3),
    Row("keys encrypt --new-passphrase-file words", "copy", says={"encrypted": True}),
    Row("keys passwd --new-passphrase-file words", "copy", says={"encrypted": True}),
    Row("keys decrypt", "copy", says={"encrypted": False}),
    Row("keys scan --export --qr", "bob", keep={"scan": "scan_key"}),
    Row("keys find {bob}", says={"address": "{bob}"}),
    Row("keys watch", "", "{scan}\n"),
    Row("keys watch", "", NOT_UTF8, 3),
    Row("contacts add {bob} --name Bob", says={"npub": "{bob}", "name": "Bob"}),
    Row("contacts add {alice} --name Alice", "bob"),
    Row("contacts block {bob}", "copy", says={"standing": "blocked"}),
    Row("contacts list", says={"standing": "contact"}),
    Row("contacts remove {bob}", "copy", says={"removed": True}),
    Row("who {bob}", says={"npub": "{bob}"}),
    Row("wallet buy 40", says={"state": "issued", "balance": 40}),
    Row("wallet buy 20", "bob", says={"balance": 20}),
    Row("wallet balance", says={"balance": 40}),
    Row("wallet send 2 --format cashuA", keep={"token": "token"}),
    Row("wallet receive -", "bob", "{token}\n", says={"received": 2, "balance": 22}),
    Row("wallet receive -", "bob", NOT_UTF8, 4),
    Row("wallet check", says={"lost": 0, "balance": 38}),
    Row("wallet restore", says={"restored": 0, "balance": 38}),
    Row("wallet connect -", "copy", "play:book?copy\n", says={"connected": True}),
    Row("wallet connect -", "copy", NOT_UTF8, 3),
    Row("wallet disconnect", "copy", says={"connected": False}),
    Row("wallet mints list", says={"balance": 38}),
    Row("wallet mints add {url}", says={"mint": "{url}"}),
    Row("wallet mints remove {url}", code=3),
    Row("send {bob} -", stdin="hello\n", says={"code": "accepted", "balance": 37}),
    Row("send {bob} -", stdin=NOT_UTF8, code=3),
    Row("send --lines", stdin=LINES, code=3, says={"line": 6, "code": "accepted", "balance": 35}),
    Row("send --lines", stdin=LINES, code=3, says={"line": 6, "code": "duplicate", "balance": 35}),
    Row("send {bob} --lines --dry-run", stdin='{{"text": "x"}}', says={"line": 1, "code": "dry-run", "balance": 35}),
    Row("send {bob} --lines", stdin=NOT_UTF8, code=3, says={"line": 1, "error": "invalid-input"}),
    Row("outbox", says={}),
    Row("inbox", "bob", says={"sender": "{alice}", "contact": "Alice", "text": "second"}),
    Row("channel create News", keep={"channel": "id"}),
    Row("channel create \udcff", code=3),
    Row("channel list", says={"id": "{channel}"}),
    Row("channel invite News {bob}", says={"accepted": True}),
    Row("channel read", "bob"),
    Row("channel join {channel}", "bob", says={"joined": True}),
    Row("channel join -", "bob", NOT_UTF8, 3),
    Row("channel post News -", stdin="at nine\n", says={"accepted": True}),
    Row("channel post News -", stdin=NOT_UTF8, code=3),
    Row("channel read", "bob", says={"author": "{alice}", "contact": "Alice", "text": "at nine"}),
    Row("channel members News", says={"member": "{bob}"}),
    Row("channel allow News", says={"accepted": True}),
    Row("channel sell News --qr", keep={"grant": "grant"}),
    Row("channel remove News {bob}"),
    Row("channel retell News"),
    Row("channel leave News", "bob", says={"left": "News"}),
    Row("session publish", "bob", says={"accepted": True}),
    Row("session word", "bob", keep={"word": "word"}),
    Row("session meet -", stdin="{word}\n", says={"npub": "{bob}"}),
    Row("session meet -", stdin=NOT_UTF8, code=3),
    Row("session introduce {bob}", says={"accepted": True}),
    Row("session addresses {bob}"),
    Row("session forget {bob}"),
    Row("pay send {bob} - --sat 5 --wait 0", stdin="why?\n", code=8, wallet=True),
    Row("pay send {bob} - --sat 5 --wait 0", stdin=NOT_UTF8, code=3, wallet=True),
    Row("pay requests", "bob", says={"npub": "{alice}", "contact": "Alice", "msat": 5_000}),
    Row("pay answer --price 5", "bob", wallet=True, says={"contact": "Alice"}),
    Row("pay send {bob} - --sat 5", stdin="why?\n", wallet=True, says={"msat": 5_000}),
    Row("pay finish", wallet=True),
    Row("offer make - --to {alice} --sat 3", "bob", "the report\n", wallet=True, keep={"offer": "offer"}),
    Row("offer make - --to {alice} --sat 3", "bob", NOT_UTF8, 3, wallet=True),
    Row("offer list", says={"seller": "{bob}", "contact": "Bob", "sat": 3}),
    Row("buy -", stdin="{offer}\n", wallet=True, says={"text": "the report"}),
    Row("buy -", stdin=NOT_UTF8, code=3, wallet=True),
    Row("offer settle", "bob", wallet=True, says={"msat": 3_000}),
    Row("offer sales", "bob", says={"state": "settled"}),
    Row("offer refund", says={"refunded": 0}),
    Row("offer judge -", "", "ppg1AAAA", 3),
    Row("offer judge -", "", NOT_UTF8, 3),
    Row("notice price -", stdin="hello\n", says={"sat": 1}),
    Row("notice price -", stdin=NOT_UTF8, code=3),
    Row("notice send {bob} - --qr", stdin="hello\n", keep={"notice": "notice"}),
    Row("notice send {bob} -", stdin=NOT_UTF8, code=3),
    Row("notice read -", "bob", "{notice}", says={"sender": "{alice}", "contact": "Alice"}),
    Row("notice read -", "bob", NOT_UTF8, 3),
    Row("notice fetch -", "bob", "{notice}", says={"text": "hello", "contact": "Alice"}),
    Row("notice fetch -", "bob", NOT_UTF8, 3),
    Row("notice watch", code=12),
    Row("doctor", says={"point": "clock", "good": True}),
)


Act = Callable[..., Done]


@pytest.fixture
def act(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str, tmp_path: Path) -> Act:
    """One command with these bytes on its stdin."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PENNYPOST_OFFICE", url)
    # Made once: Typer makes all commands anew for every run, which a process does but once.
    monkeypatch.setattr(cli, "app", ROOT)
    # The doctor finds no fault in a server that is slow because this machine is busy.
    monkeypatch.setattr(front, "PATIENCE", 60.0)

    def act(*words: str, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "argv", ["pennypost", *words])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, talk = capsys.readouterr()
        return Done(code, out, talk)

    return act


def test_a_day_of_every_command(act: Act, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON lines on stdout and nothing else, talk on stderr, bodies from stdin, exit codes of the table, names."""
    (tmp_path / "words").write_text("correct horse battery staple\n")
    monkeypatch.setenv("PENNYPOST_PASSPHRASE_FILE", str(tmp_path / "words"))
    known = {"url": url}
    done: set[Leaf] = set()
    for row in DAY:
        words = tuple(word.format(**known) for word in row.words.split())
        options = ("--home", row.home) if row.home else ()
        options += ("--nwc", f"play:{tmp_path / 'book'}?{row.home}") if row.wallet else ()
        stdin = row.stdin if isinstance(row.stdin, bytes) else row.stdin.format(**known).encode()
        ended = act(*words, *options, "--json", stdin=stdin)
        assert ended.code == row.code, (words, ended)
        lines = ended.lines
        assert all(isinstance(line, dict) for line in lines), words
        assert not [line for line in ended.talk.splitlines() if line.startswith("{") or "\x1b" in line], words
        if row.code:
            assert "error" in lines[-1] or row.says, (words, ended)
        for name, value in row.says.items():
            expected = value.format(**known) if isinstance(value, str) else value
            assert lines[-1][name] == expected, (words, name, lines[-1])
        known |= {name: lines[-1][each] for name, each in row.keep.items()}
        done.add(next(words[:length] for length in (1, 2, 3) if words[:length] in LEAVES))
    assert done == LEAVES.keys() - NO_JSON


def test_lines_that_are_piped_through_other_programs(act: Act) -> None:
    """What stops one letter stops no other; what would stop every other ends the command with its code."""
    bob = act("keys", "new", "--home", "bob", "--json").lines[0]["npub"]
    act("wallet", "buy", "2", "--home", "alice")
    letters = "".join(json.dumps({"to": bob, "text": str(number)}) + "\n" for number in range(5)).encode()
    stopped = act("send", "--lines", "--home", "alice", "--json", stdin=letters)
    assert stopped.code == 4 and [line.get("line") for line in stopped.lines] == [1, 2, None]
    assert stopped.lines[-1]["error"] == "no-stamps"
    inbox = act("inbox", "--home", "bob", "--json")
    assert [(mail["text"], mail["contact"]) for mail in inbox.lines] == [("0", ""), ("1", "")]
    for wrong in (("send", "--lines"), ("send", bob, "x", "--lines"), ("send", "--lines", "--once", "k")):
        ended = act(*wrong, "--home", "alice", stdin=b"")
        assert ended.code == (0 if len(wrong) == 2 else 2), wrong
    assert act("send", "--lines", "--home", "alice", stdin=b"x" * 600_000).code == 3


def test_a_terminal_without_their_letters(act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that the terminal's encoding has no form for is spelled, and ends nothing."""
    bob = act("keys", "new", "--home", "bob", "--json").lines[0]["npub"]
    act("contacts", "add", bob, "--name", "Bör", "--home", "bob")
    shown = io.BytesIO()
    terminal = io.TextIOWrapper(shown, "ascii")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        assert act("contacts", "list", "--home", "bob").code == 0
    assert shown.getvalue().decode("ascii").strip().endswith("B\\xf6r")


def test_a_code_is_drawn_where_somebody_looks(act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for words, drawn in ((("keys", "scan", "--qr"), True), (("keys", "scan"), False)):
        terminal = Terminal()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", terminal)
            assert act(*words, "--home", "bob").out.startswith("nprofile1")
        assert ("█" in terminal.getvalue()) == drawn


@pytest.mark.parametrize(
    ("done", "total", "shown"),
    [
        (0, 4, "[--------------------] 0/4"),
        (3, 4, "[###############-----] 3/4"),
        (4, 4, "[####################] 4/4"),
        (5, 4, "[####################] 5/4"),
        (-1, 4, "[--------------------] -1/4"),
        (7, 0, "… 7"),
    ],
)
def test_how_far_it_has_come(done: int, total: int, shown: str) -> None:
    assert bar(done, total) == shown


def test_somebody_with_a_name_and_without() -> None:
    assert called("npub1x", "") == "npub1x"
    assert called("npub1x", "Bob\x1b[2J") == "Bob�[2J (npub1x)"
