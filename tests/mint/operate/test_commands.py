"""`pennypost mint …` as an operator types it: results on stdout, talk on stderr, exit codes, the seed nowhere."""

from __future__ import annotations

import asyncio
import io
import json
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from pennypost.cli import main
from pennypost.protocol.token import parse_token
from pennypost_migrations import upgrade
from pennypost_mint import seed as seeds
from pennypost_mint.api import pay_play_invoice
from pennypost_mint.runtime.database import database_url, open_database
from pennypost_mint.seed import is_sealed
from pennypost_mint.tables import mint_quotes
from tests.mint.desk import SWAP, Desk, open_desk, settings_for
from tests.support.ports import free_port
from tests.support.stamps import output

WORDS = "correct horse battery staple"


@dataclass
class Done:
    code: int
    out: str
    talk: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Done]


def runner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["pennypost", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(""))
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, talk = capsys.readouterr()
        assert "Traceback" not in talk
        return Done(code, out, talk)

    return run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("PENNYPOST_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(seeds, "LOG_N", 10)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PENNYPOST_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PENNYPOST_PLAY_SETTLE_AFTER", "never")
    monkeypatch.setenv("PENNYPOST_PUBLIC_URL", "https://mint.example")
    return tmp_path


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("mint", "info")` is `pennypost mint info` with the settings of a mint that has done business."""
    asyncio.run(business(folder))
    return runner(monkeypatch, capsys)


async def with_desk(folder: Path, work: Callable[[Desk], Any]) -> Any:
    async with open_desk(settings_for(folder / "data")) as desk:
        return await work(desk)


async def business(folder: Path) -> None:
    """12 sat sold, 4 of them swapped, 7 paid and not claimed, 5 paid and not credited, 9 not paid."""

    async def work(desk: Desk) -> None:
        proofs = await desk.buy(8, 4)
        await desk.done(SWAP, {"inputs": proofs[1:], "outputs": [output(4).message(desk.keyset)]})
        await desk.paid_quote(7)
        quote = await desk.quote(5)
        await desk.quote(9)
        await pay_play_invoice(desk.database, quote["request"])
        (folder / "invoice").write_text(quote["request"])

    await with_desk(folder, work)


def test_report_and_its_exit_code(run: Run, folder: Path) -> None:
    done = run("mint", "report", "--json")
    assert done.code == 0
    found = done.json
    assert {name: found[name] for name in ("settled", "sold", "unclaimed", "difference", "promotional")} == {
        "settled": 19,
        "sold": 12,
        "unclaimed": 7,
        "difference": 0,
        "promotional": 0,
    }
    assert (found["signed"], found["spent"], found["outstanding"], found["used"]) == (16, 4, 12, 0)
    assert found["balanced"] is True and found["faults"] == []
    assert [each["outstanding"] for each in found["keysets"]] == [12]
    assert sum(each["sold"] for each in found["days"]) == 12
    text = run("mint", "report")
    assert text.code == 0 and "unclaimed" in text.out and found["days"][0]["day"] in text.out

    async def harm(desk: Desk) -> None:
        await desk.database.write(
            lambda connection: connection.execute(
                update(mint_quotes).where(mint_quotes.c.state == "ISSUED").values(amount_issued=1)
            )
        )

    asyncio.run(with_desk(folder, harm))
    off = run("mint", "report", "--json")
    report, error = off.lines
    assert off.code == 13
    assert report["balanced"] is False and report["difference"] == 11
    assert error["error"] == "books"


def test_report_asks_the_node(run: Run) -> None:
    """5 sat were paid that the mint has not heard of: the books balance, and the node says more."""
    assert "node" not in run("mint", "report", "--json").json
    off = run("mint", "report", "--ask-node", "--json")
    report, error = off.lines
    assert (off.code, error["error"]) == (13, "books")
    assert (report["difference"], report["balanced"], len(report["faults"])) == (0, False, 1)
    node = report["node"]
    counts = ("asked", "settled", "credited", "difference", "uncredited", "unknown", "no_answer", "too_little")
    assert {name: node[name] for name in counts} == {
        "asked": 4,
        "settled": 24,
        "credited": 19,
        "difference": 5,
        "uncredited": 1,
        "unknown": 0,
        "no_answer": 0,
        "too_little": 0,
    }
    [odd] = node["odd"]
    assert (odd["credited"], odd["settled"]) == (0, 5)
    text = run("mint", "report", "--ask-node")
    assert text.code == 13 and odd["payment_hash"] in text.out
    assert run("mint", "reconcile", odd["payment_hash"]).code == 0
    done = run("mint", "report", "--ask-node", "--json")
    assert (done.code, done.json["balanced"], done.json["settled"]) == (0, True, 24)
    assert (done.json["node"]["settled"], done.json["node"]["difference"], done.json["node"]["odd"]) == (24, 0, [])
    later = run("mint", "report", "--ask-node", "--since", "2990-01-01", "--json")
    assert (later.code, later.json["node"]["asked"]) == (0, 0)
    assert run("mint", "report", "--since", "2026-01-01").code == 2
    assert run("mint", "report", "--ask-node", "--since", "yesterday").code == 2


def test_report_when_the_node_is_away(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENNYPOST_LIGHTNING", "cln")
    monkeypatch.setenv("PENNYPOST_CLN_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("PENNYPOST_CLN_RUNE", "rune")
    done = run("mint", "report", "--ask-node", "--json")
    report, error = done.lines
    assert (done.code, error["error"]) == (7, "lightning")
    assert (report["balanced"], report["node"]["no_answer"], report["node"]["settled"]) == (True, 4, 0)
    assert run("mint", "report").code == 0


def test_quotes_in_pages(run: Run) -> None:
    everything = run("mint", "quotes", "--json").json
    assert [each["amount"] for each in everything["quotes"]] and len(everything["quotes"]) == 4
    assert everything["before"] is None
    seen: list[str] = []
    more: list[str] = []
    while True:
        page = run("mint", "quotes", "--limit", "3", *more, "--json").json
        seen += [each["id"] for each in page["quotes"]]
        if page["before"] is None:
            break
        more = ["--before", page["before"]]
    assert seen == [each["id"] for each in everything["quotes"]]
    assert [each["amount"] for each in run("mint", "quotes", "--state", "paid", "--json").json["quotes"]] == [7]
    assert len(run("mint", "quotes", "--state", "unpaid").out.splitlines()) == 2
    assert run("mint", "quotes", "--limit", "1001").code == 2
    assert run("mint", "quotes", "--state", "sold").code == 2
    assert run("mint", "quotes", "--before", "nothing").code == 6


def test_reconcile_credits_what_was_paid(run: Run, folder: Path) -> None:
    one = run("mint", "reconcile", (folder / "invoice").read_text(), "--json")
    assert one.code == 0
    credited, summary = one.lines
    assert (credited["became"], credited["credited"], credited["amount"]) == ("credited", 5, 5)
    assert (summary["looked_up"], summary["credited_sat"]) == (1, 5)
    rest = run("mint", "reconcile", "--json")
    [summary] = rest.lines
    assert rest.code == 0
    assert (summary["looked_up"], summary["credited"], summary["waiting"]) == (1, 0, 1)
    assert run("mint", "reconcile", "--lapsed").code == 0
    assert run("mint", "reconcile", "f" * 64).code == 6
    assert run("mint", "report", "--json").json["settled"] == 24


def test_issue_prints_a_token_alone(run: Run) -> None:
    first = run("mint", "issue", "7", "--reference", "x")
    assert first.code == 0 and "x" in first.talk
    read = parse_token(first.out.strip())
    assert (read.amount, read.mint) == (7, "https://mint.example")
    again = run("mint", "issue", "7", "--reference", "x", "--json")
    assert again.json == {"token": first.out.strip(), "amount": 7, "reference": "x", "fresh": False, "unit": "sat"}
    assert run("mint", "issue", "8", "--reference", "x").code == 3
    assert run("mint", "issue", "0").code == 2
    assert run("mint", "issue", "100001").code == 6
    unnamed = run("mint", "issue", "1", "--json").json
    assert unnamed["fresh"] is True and unnamed["reference"] not in ("", "x")
    found = run("mint", "report", "--json").json
    assert (found["promotional"], found["sold"], found["difference"], found["balanced"]) == (8, 12, 0, True)


def test_rotate_keysets_sunset_info(run: Run) -> None:
    before = run("mint", "info", "--json").json
    assert (before["selling"], before["keysets"], before["seed"], before["url"]) == (
        True,
        1,
        "in clear",
        "https://mint.example",
    )
    made = run("mint", "rotate", "--final-expiry", "2099-12-31", "--json").json
    assert made["final_expiry"] == 4_102_444_799
    assert run("mint", "info", "--json").json["active_final_expiry"] == 4_102_444_799
    listed = run("mint", "keysets", "--json").json["keysets"]
    assert [(each["id"], each["active"]) for each in listed] == [(before["active_keyset"], False), (made["id"], True)]
    assert made["id"] in run("mint", "keysets").out
    for wrong in ("yesterday", "2020-01-01", "99", "2031-13-01", "9" * 13, "٢٠٣١-١٢-٣١"):
        assert run("mint", "rotate", "--final-expiry", wrong).code == 3, wrong
    ended = run("mint", "sunset", "--json").json
    assert ended["selling"] is False
    assert run("mint", "sunset", "--json").json == ended
    assert run("mint", "info", "--json").json["sunset"] == ended["sunset"]
    assert run("mint", "issue", "1").code == 6
    assert run("mint", "sunset", "--resume", "--json").json == {"selling": True, "sunset": None}


def test_backup_and_restore(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    books = run("mint", "report", "--json").json
    made = run("mint", "backup", "mint.backup", "--json")
    assert made.code == 0 and made.json["seed"] is False and "NOT" in made.talk
    assert run("mint", "backup", "mint.backup").code == 3
    found = run("mint", "verify-backup", "mint.backup", "--json").json
    assert (found["outstanding"], found["keysets"], found["seed"]) == (12, 1, False)
    assert found["rows"]["mint_quotes"] == 4
    assert run("mint", "restore", "mint.backup").code == 10
    (folder / "short").write_bytes((folder / "mint.backup").read_bytes()[:-1])
    assert run("mint", "verify-backup", "short").code == 3

    monkeypatch.setenv("PENNYPOST_DATA_DIR", str(folder / "new"))
    assert run("mint", "restore", "mint.backup").code == 10, "no schema yet"
    assert run("db", "upgrade").code == 0
    assert run("mint", "restore", "mint.backup").code == 10, "no seed"
    monkeypatch.setenv("PENNYPOST_MINT_SEED_FILE", str(folder / "data" / "mint.seed"))
    (folder / "new" / "mint.last-use").write_text(json.dumps({"mint": found["mint"], "at": found["made_at"] + 1}))
    assert run("mint", "restore", "mint.backup").code == 13
    restored = run("mint", "restore", "mint.backup", "--accept-double-spending", "--json")
    assert restored.code == 0 and restored.json["outstanding"] == 12 and "spent again" in restored.talk
    assert run("mint", "report", "--json").json == books


def test_commands_without_a_mint_make_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runner(monkeypatch, capsys)
    for command in ("info", "keysets", "quotes", "report", "reconcile", "rotate", "sunset", "backup x", "issue 1"):
        assert run("mint", *command.split()).code == 10, command
    assert os.listdir(folder) == []
    assert run("mint", "seed", "encrypt").code == 10
    address = database_url("", folder / "data")
    asyncio.run(upgrade(address))
    for command in ("rotate", "backup x", "issue 1"):
        assert run("mint", *command.split()).code == 10, command
    assert sorted(os.listdir(folder / "data"))[0] == "pennypost.sqlite"
    assert not (folder / "data" / "mint.seed").exists()


def test_an_older_schema_is_said_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runner(monkeypatch, capsys)

    async def old() -> None:
        await upgrade(database_url("", folder / "data"))
        database = open_database("", folder / "data")
        await database.write(lambda connection: connection.exec_driver_sql("DROP TABLE promotions"))
        await database.close()

    asyncio.run(old())
    done = run("mint", "report", "--json")
    assert (done.code, done.json["error"]) == (10, "schema")


def test_the_seed_file(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Encrypted, opened, another passphrase, in clear again: always the same seed, and shown by nothing."""
    path = folder / "data" / "mint.seed"
    plain = path.read_text().strip()
    told: list[str] = []

    def did(code: int, *arguments: str) -> Done:
        done = run(*arguments)
        assert done.code == code, (arguments, done)
        told.append(done.out + done.talk)
        return done

    (folder / "first").write_text(WORDS + "\n")
    (folder / "second").write_text("another " + WORDS)
    (folder / "short").write_text("elevenchars")
    did(3, "mint", "seed", "encrypt")
    did(3, "mint", "seed", "encrypt", "--new-passphrase-file", str(folder / "short"))
    did(3, "mint", "seed", "encrypt", "--new-passphrase-file", str(folder / "absent"))
    assert path.read_text().strip() == plain
    assert did(0, "mint", "seed", "encrypt", "--new-passphrase-file", str(folder / "first"), "--json").json == {
        "seed": "encrypted"
    }
    assert is_sealed(path.read_text()) and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert did(0, "mint", "info", "--json").json["seed"] == "encrypted"
    did(10, "mint", "rotate")
    did(10, "mint", "issue", "1")
    did(0, "mint", "report")
    did(0, "mint", "backup", "sealed.backup")
    monkeypatch.setenv("PENNYPOST_MINT_SEED_PASSPHRASE_FILE", str(folder / "second"))
    did(10, "mint", "rotate")
    monkeypatch.setenv("PENNYPOST_MINT_SEED_PASSPHRASE_FILE", str(folder / "first"))
    did(0, "mint", "rotate")
    did(0, "mint", "issue", "1")
    did(0, "mint", "seed", "change-passphrase", "--new-passphrase-file", str(folder / "second"))
    did(10, "mint", "rotate")
    monkeypatch.setenv("PENNYPOST_MINT_SEED_PASSPHRASE_FILE", str(folder / "second"))
    did(0, "mint", "rotate", "--json")
    did(0, "mint", "seed", "decrypt")
    assert path.read_text().strip() == plain
    assert did(10, "mint", "rotate", "--json").json["error"] == "seed-locked", "a passphrase for a file in clear"
    assert not [text for text in told if plain in text or WORDS in text]
    assert plain.encode() not in (folder / "sealed.backup").read_bytes()
    assert bytes.fromhex(plain) not in (folder / "sealed.backup").read_bytes()
