"""The commands of payments, offers and notices against a real server process, with wallets of play money."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pennypost.cli.talk import sats
from tests.sdk.test_cli import NPUB, Run, run
from tests.support.server import Server

__all__ = ["run"]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server process."""
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server.url


@pytest.fixture
def people(run: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """alice and bob, with stamps, and wallets named by files: their npubs."""
    monkeypatch.setenv("PENNYPOST_OFFICE", url)
    monkeypatch.delenv("PENNYPOST_WALLET", raising=False)
    monkeypatch.delenv("PENNYPOST_WALLET_FILE", raising=False)
    names: dict[str, str] = {}
    for name in ("alice", "bob"):
        names[name] = run("keys", "new", "--home", name, "--json").lines[0]["npub"]
        assert run("wallet", "buy", "10", "--home", name).code == 0
        (tmp_path / f"{name}.link").write_text(f"play:{tmp_path / 'book'}?{name}\n")
    return names


def test_a_text_is_sold(run: Run, people: dict[str, str]) -> None:
    made = run(
        "offer", "make", "-", "--to", people["bob"], "--sat", "21", "--description", "cats",
        "--home", "alice", "--nwc", "alice.link", "--json", stdin="the report\n",
    )  # fmt: skip
    assert made.code == 0, made.talk
    sale = made.lines[0]
    listed = run("offer", "list", "--home", "bob", "--json").lines
    assert [(each["id"], each["sat"], each["description"]) for each in listed] == [(sale["id"], 21, "cats")]
    assert run("buy", sale["id"][:12], "--home", "bob", "--nwc", "bob.link", "--most", "20").code == 12
    bought = run("buy", sale["id"][:12], "--home", "bob", "--nwc", "bob.link")
    assert (bought.code, bought.out) == (0, "the report\n"), bought.talk
    settled = run("offer", "settle", "--home", "alice", "--nwc", "alice.link", "--json")
    assert settled.lines == [{"id": sale["id"], "msat": 21_000}]
    (sold,) = run("offer", "sales", "--home", "alice", "--json").lines
    assert (sold["state"], sold["buyer"]) == ("settled", people["bob"])
    assert run("offer", "judge", "ppg1AAAA").code == 3
    assert run("buy", "ffff", "--home", "bob").code == 3


def test_a_message_with_its_payment(run: Run, people: dict[str, str]) -> None:
    words = ("pay", "send", people["bob"], "my question", "--sat", "30", "--about", "two\nminutes", "--home", "alice")
    waiting = run(*words, "--nwc", "alice.link", "--wait", "0")
    assert waiting.code == 8
    (request,) = run("pay", "requests", "--home", "bob", "--json").lines
    assert (request["npub"], request["msat"], request["about"]) == (people["alice"], 30_000, "two\nminutes")
    assert len(run("pay", "requests", "--home", "bob").out.splitlines()) == 1
    assert run("pay", "answer", "--price", "21", "--home", "bob", "--nwc", "bob.link").code == 0
    paid = run(*words, "--nwc", "alice.link", "--json")
    assert paid.code == 0 and paid.lines[0]["msat"] == 30_000, paid.talk
    assert run("pay", "finish", "--home", "alice", "--nwc", "alice.link").code == 0
    shown = run("inbox", "--home", "bob").out
    assert "with 30 sat" in shown and "    my question" in shown and NPUB.search(shown)
    (mail,) = run("inbox", "--again", "--home", "bob", "--json").lines
    assert mail["paid_msat"] == 30_000 and "proof" not in mail
    assert run("pay", "send", people["bob"], "x", "--sat", "1", "--home", "alice").code == 12, "no wallet"


def test_a_notice_by_hand(run: Run, people: dict[str, str]) -> None:
    done = run("notice", "send", people["bob"], "hello Bob", "--home", "alice")
    notice = done.out.strip()
    assert done.code == 0 and notice.startswith("ppn1"), done.talk
    read = run("notice", "read", "-", "--home", "bob", "--json", stdin=f"comment: {notice}\n").lines[0]
    assert read["sender"] == people["alice"] and read["notice"] == notice
    fetched = run("notice", "fetch", notice, "--home", "bob", "--json").lines[0]
    assert (fetched["text"], fetched["sender"]) == ("hello Bob", people["alice"])
    assert run("notice", "read", notice, "--home", "alice").code == 3
    assert run("notice", "send", people["bob"], "x", "--pay", "bob@10.0.0.1", "--home", "alice").code == 3
    (own,) = run("notice", "price", "hello", "--home", "alice", "--json").lines
    assert own["sat"] == 1


def test_stamps_bought_by_a_wallet_that_cannot(run: Run, people: dict[str, str]) -> None:
    """Play money of a book of its own does not reach the mint's: nothing is paid, and the sentence says so."""
    done = run("wallet", "buy", "3", "--home", "alice", "--nwc", "alice.link")
    assert done.code == 12 and run("wallet", "balance", "--home", "alice").out == "10\n"


def test_the_doctor_looks_at_the_wallet(run: Run, people: dict[str, str]) -> None:
    points = {each["point"]: each for each in run("doctor", "--home", "bob", "--nwc", "bob.link", "--json").lines}
    assert points["wallet"]["good"] and "sat" in points["wallet"]["found"]
    link = "nostr+walletconnect://" + "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
    dead = f"{link}?relay=ws://127.0.0.1:1&secret={'1' * 64}"
    done = run("doctor", "--home", "bob", "--nwc", dead, "--json")
    assert done.code == 12 and done.lines[-1]["code"] == "wallet-unreachable"
    assert "1" * 64 not in done.out + done.talk
    assert "wallet" not in {each["point"] for each in run("doctor", "--home", "bob", "--json").lines}


def test_amounts_are_exact() -> None:
    assert [sats(each) for each in (0, 1, 999, 1_000, 1_500, 21_000, 10**14 + 1)] == [
        "0 sat",
        "0.001 sat",
        "0.999 sat",
        "1 sat",
        "1.5 sat",
        "21 sat",
        "100000000000.001 sat",
    ]
