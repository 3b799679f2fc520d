"""The command line against a real server process: results, talk, exit codes."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from pennypost.cli import exit_codes, front, main, plugins
from pennypost.cli.doctor import _modes
from pennypost.cli.talk import plain, stamps, when
from pennypost.home import Home
from pennypost.protocol import errors
from pennypost.protocol.errors import TABLE
from pennypost.protocol.token import parse_token
from tests.support.server import Server, clean_environment

SOMEBODY = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
NPUB = re.compile(r"npub1[02-9ac-hj-np-z]{58}")


@dataclass
class Done:
    code: int
    out: str
    talk: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Done]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server process."""
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server.url


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """`run("keys", "new")` is `pennypost keys new` in an empty directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "OFFICE", "MINT"):
        monkeypatch.delenv(f"PENNYPOST_{name}", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    # The doctor finds no fault in a server that is slow because this machine is busy.
    monkeypatch.setattr(front, "PATIENCE", 60.0)

    def run(*arguments: str, stdin: str = "") -> Done:
        monkeypatch.setattr(sys, "argv", ["pennypost", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, talk = capsys.readouterr()
        assert "Traceback" not in talk
        return Done(code, out, talk)

    return run


def test_what_a_newcomer_does(run: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENNYPOST_OFFICE", url)
    made = run("keys", "new", "--home", "bob")
    bob = made.out.strip()
    assert made.code == 0 and NPUB.fullmatch(bob)
    bought = run("wallet", "buy", "10", "--home", "alice")
    assert bought.code == 0 and bought.out.startswith("lnbcrt100n1")
    sent = run("send", bob, "hello Bob", "--home", "alice")
    assert (sent.code, sent.out) == (0, "")
    # Alice had no keys: they were made, and it was said so.
    alice = NPUB.findall(sent.talk)[0]
    inbox = run("inbox", "--home", "bob")
    assert inbox.out.splitlines()[0].startswith(f"From {alice} on ")
    assert inbox.out.splitlines()[1] == "    hello Bob"
    assert run("inbox", "--home", "bob").out == ""
    assert run("wallet", "balance", "--home", "alice").out == "9\n"
    for home in ("alice", "bob"):
        assert stat.S_IMODE((tmp_path / home).stat().st_mode) == 0o700
        for file in (tmp_path / home).iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_json(run: Run, url: str) -> None:
    def json_of(*arguments: str, home: str, stdin: str = "") -> list[dict[str, Any]]:
        done = run(*arguments, "--json", "--home", home, "--office", url, stdin=stdin)
        assert done.code == 0, done.talk
        return done.lines

    (bob,) = json_of("keys", "new", home="bob")
    assert set(bob) == {"npub", "pubkey"} and len(bob["pubkey"]) == 64
    assert json_of("keys", "show", home="bob") == [bob]
    (shown,) = json_of("keys", "show", "--secret", home="bob")
    assert shown["nsec"].startswith("nsec1")
    assert json_of("keys", "import", home="copy", stdin=shown["nsec"]) == [bob]
    invoice, bought = json_of("wallet", "buy", "10", home="alice")
    assert (invoice["state"], invoice["amount"]) == ("unpaid", 10) and invoice["request"].startswith("lnbcrt100n1")
    assert bought == {"state": "issued", "amount": 10, "balance": 10}
    (token,) = json_of("wallet", "send", "4", home="alice")
    assert set(token) == {"token", "amount"} and token["amount"] == 4 and parse_token(token["token"]).amount == 4
    assert json_of("wallet", "receive", token["token"], home="bob") == [{"received": 4, "balance": 4}]
    places = {"balance": 6, "reserved": 0, "in_tokens": 4, "in_flight": 0}
    assert json_of("wallet", "balance", home="alice") == [places | {"unit": "sat", "mints": [{"mint": url} | places]}]
    (check,) = json_of("wallet", "check", home="alice")
    assert check == {
        "mint": url, "stamps": 6, "balance": 6, "recovered": 0, "lost": 0, "reserved": 0, "tokens": [], "problems": []
    }  # fmt: skip
    (receipt,) = json_of("send", bob["npub"], "--keep", "1d", home="alice", stdin="from\nstdin\n")
    assert (receipt["accepted"], receipt["code"], receipt["stamps"], receipt["balance"]) == (True, "accepted", 1, 5)
    (dry,) = json_of("send", bob["npub"], "x", "--dry-run", home="alice")
    assert (dry["code"], dry["stamps"], dry["balance"]) == ("dry-run", 1, 5)
    (mail,) = json_of("inbox", home="bob")
    assert (mail["text"], mail["id"], mail["office"]) == ("from\nstdin", receipt["event_id"], url)
    assert mail["kept_until"] == receipt["kept_until"] == mail["sent_at"] + 86_400
    assert json_of("wallet", "restore", home="alice") == [{"restored": 0, "balance": 5}]
    points = json_of("doctor", url, home="alice")
    assert [(point["point"], point["good"]) for point in points] == [
        (name, True) for name in ("tls", "way", "post office", "header feed", "connection", "bodies", "mint", "clock")
    ]


def test_a_lost_database_is_restored_from_a_copy_of_the_seed(run: Run, url: str, tmp_path: Path) -> None:
    run("wallet", "buy", "5", "--home", "alice", "--office", url)
    done = run(
        "wallet", "restore", "--seed-file", str(tmp_path / "alice" / "wallet.seed"),
        "--home", "found", "--office", url, "--json",
    )  # fmt: skip
    assert done.lines == [{"restored": 5, "balance": 5}]


def test_options_before_the_command(run: Run, url: str) -> None:
    assert run("--home", "bob", "--json", "keys", "new").lines
    assert run("--home", "bob", "--office", url, "wallet", "balance").out == "0\n"
    assert run("--home", "carol", "keys", "show", "--home", "bob").out == run("keys", "show", "--home", "bob").out


ERRORS: tuple[tuple[tuple[str, ...], int], ...] = (
    (("nonsense",), 2),
    (("wallet", "buy", "ten"), 2),
    (("wallet", "buy", "0"), 2),
    (("send",), 2),
    (("send", "npub1nobody", "x"), 3),
    (("wallet", "receive", "cashuBgarbage"), 3 + 1),
    (("wallet", "restore", "--seed-file", "/nonexistent"), 3),
    (("wallet", "balance", "--office", "ftp://x"), 3),
    (("keys", "import", "nsec1"), 3),
    (("send", SOMEBODY, "x"), 4),
    (("wallet", "send", "1"), 4),
    (("keys", "new"), 11),
)


@pytest.mark.parametrize(("arguments", "code"), ERRORS)
def test_errors(run: Run, url: str, arguments: tuple[str, ...], code: int) -> None:
    run("keys", "new", "--home", "bob")
    options = ("--home", "bob") if arguments[0] != "nonsense" else ()
    office = ("--office", url) if "--office" not in arguments and options and arguments[0] != "keys" else ()
    done = run(*arguments, *options, *office)
    assert done.code == code, done.talk
    assert done.talk.strip() and done.out == ""
    if code > 2:
        (error,) = run(*arguments, *options, *office, "--json").lines
        assert error["error"] in {each.code for each in TABLE} and error["remedy"]


def test_nobody_there(run: Run) -> None:
    for arguments in (("inbox",), ("wallet", "buy", "1"), ("send", SOMEBODY, "x"), ("wallet", "check")):
        done = run(*arguments, "--home", "bob", "--office", "http://127.0.0.1:1")
        assert done.code == 7 and "http://127.0.0.1:1" in done.talk, arguments
    points = run("doctor", "http://127.0.0.1:1", "--home", "bob", "--json")
    assert points.code == 7
    assert [point["point"] for point in points.lines if point["good"]] == ["tls"] and len(points.lines) == 8


def test_an_unpaid_invoice(run: Run, tmp_path: Path) -> None:
    with Server(tmp_path / "server", settings={"PLAY_SETTLE_AFTER": "never"}) as server:
        options = ("--home", "alice", "--office", server.url, "--timeout", "0")
        first, second = (run("wallet", "buy", "5", *options) for _ in range(2))
        assert first.code == second.code == 8
        assert first.out == second.out


def test_open_modes_are_mended_and_the_doctor_sees_them(run: Run, url: str, tmp_path: Path) -> None:
    run("keys", "new", "--home", "bob")
    identity = tmp_path / "bob" / "identity"
    identity.chmod(0o644)
    assert _modes(Home(tmp_path / "bob"))
    # Opening the state of the home mends the modes of its files.
    assert run("doctor", url, "--home", "bob").code == 0
    assert stat.S_IMODE(identity.stat().st_mode) == 0o600


# A shell that runs the tests in the background may ignore SIGINT, and its children inherit that.
INTERRUPTIBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from pennypost.cli import main
main()
"""


def test_interrupted(url: str, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, "inbox", "--watch", "--home", "bob", "--office", url],
        cwd=tmp_path, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        while not (tmp_path / "bob" / "pennypost.db").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, talk = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == exit_codes.INTERRUPTED, talk
    assert "Traceback" not in talk


def test_server_commands_are_found(run: Run) -> None:
    assert "migrates" in run("up", "--help").out
    assert "upgrade" in run("db", "--help").out
    assert run("settings", "--json").code == 0


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, plugins.GROUP)


def test_server_commands_that_are_not_installed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(**_: str) -> list[EntryPoint]:
        return [entry("up", "no_such_package.commands:up"), entry("other", "tests.sdk.test_cli:other")]

    monkeypatch.setattr(plugins, "entry_points", found)
    for words in (("up", "--port", "1"), ("db", "upgrade"), ("play", "pay", "x"), ("mint", "info"), ("office", "x")):
        done = run(*words)
        assert done.code == 10 and "pennypost[server]" in done.talk, words
    assert run("other", "7").out == "7\n"
    assert run("--help").code == 0


def other(number: int) -> None:
    """Another distribution's command."""
    print(number)


def test_a_fault_of_a_plugin_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModuleNotFoundError):
        plugins.command(entry("up", "pennypost_postoffice.no_such_module:up"))


def test_every_error_has_an_exit_code_of_the_table() -> None:
    codes = {code for code, _ in exit_codes.TABLE}
    assert len(codes) == len(exit_codes.TABLE)
    for error in TABLE:
        assert exit_codes.exit_code(error()) in codes
    assert exit_codes.exit_code(errors.StampSpent()) == 4
    assert exit_codes.exit_code(errors.QuoteUnpaid()) == 6
    assert exit_codes.exit_code(errors.PennypostError()) == 1


PLAIN = (
    ("hello\n\tBob ünï ✉ 日本", "hello\n\tBob ünï ✉ 日本"),
    ("\x1b[2J", "�[2J"),
    ("a\rb\x07\x9b", "a�b��"),
    ("\u202eabc\u2066", "�abc�"),
    ("\ud800", "�"),
)


@pytest.mark.parametrize(("text", "shown"), PLAIN)
def test_strangers_do_not_drive_the_terminal(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_times_and_numbers() -> None:
    assert when(10**15) == str(10**15)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", when(1_800_000_000))
    assert (stamps(1), stamps(2)) == ("1 stamp", "2 stamps")


def test_output_into_a_closed_pipe(url: str, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run(
        [sys.executable, "-c", "from pennypost.cli import main; main()", "keys", "new", "--home", "bob"],
        cwd=tmp_path, env=clean_environment(), stdout=writing, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writing)
    assert process.returncode == 1 and "Traceback" not in process.stderr


def test_a_channel(run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENNYPOST_OFFICE", url)

    def channel(*arguments: str, home: str, stdin: str = "") -> list[dict[str, Any]]:
        done = run("channel", *arguments, "--home", home, "--json", stdin=stdin)
        assert done.code == 0, done.talk
        return done.lines

    bob = run("keys", "new", "--home", "bob", "--json").lines[0]["npub"]
    run("wallet", "buy", "5", "--home", "alice")
    (made,) = channel("create", "News", "--epoch", "1d", "--poster", bob, home="alice")
    (invited,) = channel("invite", "News", bob, home="alice")
    assert (made["mine"], made["posters"], invited["stamps"]) == (True, [bob], 1)
    assert channel("read", home="bob") == []
    assert [each["joined"] for each in channel("list", home="bob")] == [False]
    assert channel("join", made["id"][:8], home="bob")[0]["joined"] is True
    (posted,) = channel("post", "News", "--keep", "1d", home="alice", stdin="meet at nine\n")
    (read,) = channel("read", home="bob")
    assert (read["text"], read["id"], read["kept_until"]) == ("meet at nine", posted["event_id"], posted["kept_until"])
    (word,) = channel("sell", "News", home="alice")
    assert channel("join", "-", home="carol", stdin=word["grant"])[0]["id"] == made["id"]
    assert [each["text"] for each in channel("read", "News", "--privacy", "all", home="carol")] == ["meet at nine"]
    assert [each["member"] for each in channel("members", "News", home="alice")] == [bob]
    assert [each["accepted"] for each in channel("allow", "News", home="alice")] == [True]
    assert channel("remove", "News", bob, home="alice") == []
    assert channel("retell", "News", home="alice") == []
    assert channel("leave", "News", home="bob") == [{"left": "News"}]
    assert run("channel", "post", "News", "x", "--home", "bob").code == 3
    assert run("channel", "members", "News", "--home", "carol").code == 5
    assert "meet at nine" in run("channel", "read", "--home", "alice").out


def test_a_session(run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENNYPOST_OFFICE", url)
    bob = run("keys", "new", "--home", "bob", "--json").lines[0]["npub"]
    for each in ("alice", "bob"):
        run("wallet", "buy", "5", "--home", each)
    assert run("send", bob, "hello", "--session", "--home", "alice").code == 3
    assert run("session", "publish", "--home", "bob", "--json").lines[0]["stamps"] == 1
    (address,) = run("session", "addresses", bob, "--home", "alice", "--json").lines
    sent = run("send", bob, "hello", "--session", "--home", "alice", "--json").lines[0]
    assert (sent["accepted"], sent["stamps"]) == (True, 1)
    (mail,) = run("inbox", "--home", "bob", "--json").lines
    assert (mail["text"], mail["id"]) == ("hello", sent["event_id"])
    assert run("session", "forget", bob, address["address"].split("#")[1], "--home", "alice", "--json").lines == [
        {"dropped": 1}
    ]
    word = run("session", "word", "--home", "bob", "--json").lines[0]["word"]
    assert run("session", "meet", "-", "--home", "alice", "--json", stdin=word).lines == [{"npub": bob}]
    assert run("session", "introduce", bob, "--home", "alice", "--json").lines[0]["accepted"] is True
    assert run("session", "meet", "pps1", "--home", "alice").code == 3


COMPLETE = """
source /dev/stdin
COMP_WORDS=(pennypost wal); COMP_CWORD=1; _pennypost_completion pennypost; echo "${COMPREPLY[@]}"
COMP_WORDS=(pennypost wallet bu); COMP_CWORD=2; _pennypost_completion pennypost; echo "${COMPREPLY[@]}"
"""


def test_completion(run: Run) -> None:
    """What each shell reads, in its own words; and bash completes with it."""
    marks = {"bash": "complete -o", "zsh": "compdef", "fish": "complete --command pennypost"}
    for shell, mark in marks.items():
        done = run("completion", shell)
        assert done.code == 0 and mark in done.out, shell
    assert run("completion", "cmd").code == 2
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    bash = subprocess.run(
        ["bash", "-c", COMPLETE], input=run("completion", "bash").out, env=clean_environment(PATH=path),
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert bash.stdout.split() == ["wallet", "buy"], bash.stderr


def test_codes_are_drawn_on_a_terminal_alone(url: str, tmp_path: Path) -> None:
    """QR codes: where they are asked for, never into a pipe or a file."""
    import pty

    def talk_of(*arguments: str, terminal: bool) -> str:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", "from pennypost.cli import main; main()", *arguments, "--home", "bob"],
            cwd=tmp_path, env=clean_environment(), stdout=subprocess.PIPE,
            stderr=theirs if terminal else subprocess.PIPE, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs)
        said = b""
        while terminal:
            try:
                said += os.read(ours, 65_536)
            except OSError:
                break
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0 and out
        os.close(ours)
        return (said if terminal else err or b"").decode()

    assert "█" in talk_of("keys", "show", "--qr", terminal=True)
    assert "█" not in talk_of("keys", "show", terminal=True)
    assert "█" not in talk_of("keys", "show", "--qr", terminal=False)
    assert "█" in talk_of("wallet", "buy", "1", "--office", url, terminal=True)
    assert "█" not in talk_of("wallet", "buy", "1", "--no-qr", "--office", url, terminal=True)


def test_every_error_has_one_exit_code_of_the_table() -> None:
    """Docs, `--help` and the codes themselves come from one table."""
    known = {code for code, _ in exit_codes.TABLE}
    for error in TABLE:
        code = exit_codes.exit_code(error())
        assert code in known and code not in (exit_codes.OK, exit_codes.USAGE, exit_codes.INTERRUPTED), error
    assert known == set(exit_codes.BY_ERROR.values()) | {0, 1, 2, 130}
    page = (Path(__file__).parents[2] / "docs" / "reference" / "commands.md").read_text()
    assert all(f"| {code} | {meaning} |" in page for code, meaning in exit_codes.TABLE)


def test_contacts(run: Run, url: str) -> None:
    where = ("--home", "bob", "--office", url)
    added = run("contacts", "add", SOMEBODY, "--name", "Carol", *where)
    npub = NPUB.findall(added.out)[0]
    assert (added.code, added.out) == (0, f"{npub}  contact  Carol\n")
    assert run("contacts", "block", npub, *where).out == f"{npub}  blocked\n"
    (listed,) = run("contacts", "list", "--json", *where).lines
    assert {key: listed[key] for key in ("npub", "name", "standing")} == {
        "npub": npub, "name": "Carol", "standing": "blocked"
    }  # fmt: skip
    assert run("inbox", "--contacts-only", *where).code == 0
    assert run("contacts", "remove", npub, "--json", *where).lines == [{"removed": True}]
    assert run("contacts", "list", *where).out == ""
    assert run("who", SOMEBODY, *where).out == f"{npub}\n"
    assert run("who", "nobody@", *where).code == 3


def test_two_offices_of_which_one_is_away(run: Run, url: str) -> None:
    away = "http://127.0.0.1:1"
    run("wallet", "buy", "3", "--home", "alice", "--office", url)
    sent = run("send", SOMEBODY, "x", "--home", "alice", "--office", f"{url}, {away}", "--json")
    (receipt,) = sent.lines
    assert sent.code == 0 and (receipt["accepted"], receipt["stamps"], receipt["balance"]) == (True, 1, 2)
    assert [(each["office"], each["code"]) for each in receipt["parts"]] == [(url, "accepted"), (away, "unreachable")]
    assert away in sent.talk
    waiting = run("outbox", "--home", "alice", "--office", url, "--json").lines
    assert [(each["office"], each["stamps"]) for each in waiting] == [(away, 0)]
    assert run("outbox", "--send", "--home", "alice", "--office", away).code == 7
    assert len(run("outbox", "--home", "alice", "--json").lines) == 1
    drop = ("outbox", "drop", waiting[0]["event_id"], "--home", "alice", "--json")
    assert run(*drop).code == 3 and away in run(*drop).talk
    assert len(run("outbox", "--home", "alice", "--json").lines) == 1
    (dropped,) = run(*drop, "--yes").lines
    assert (dropped["office"], dropped["returned"], dropped["taken"]) == (away, 0, 0)
    assert run(*drop, "--yes").lines[0]["error"] == "not-found"
    assert run("outbox", "drop", "--home", "alice").code == 3
    assert run("inbox", "--home", "alice", "--office", f"{url} {away}").code == 0


def test_once(run: Run, url: str) -> None:
    where = ("--home", "alice", "--office", url, "--json")
    run("wallet", "buy", "3", *where)
    first, again = (run("send", SOMEBODY, "x", "--once", "k", *where).lines[0] for _ in range(2))
    assert (first["code"], again["code"], first["event_id"]) == ("accepted", "duplicate", again["event_id"])
    assert again["balance"] == first["balance"] == 2
    other = run("send", SOMEBODY, "y", "--once", "k", *where)
    assert (other.code, other.lines[0]["error"]) == (3, "once-used")
