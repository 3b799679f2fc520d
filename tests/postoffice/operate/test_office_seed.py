"""`pennypost office seed …`: encrypted, opened, with another passphrase, in clear again: always the same seed."""

from __future__ import annotations

import asyncio
import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from pennypost.cli import main
from pennypost.protocol.errors import OfficeSeedLocked
from pennypost_mint import seed as seeds
from pennypost_mint.seed import is_sealed
from tests.postoffice.house import open_house

WORDS = "correct horse battery staple"
ELSEWHERE = "http://127.0.0.1:9"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An office that takes stamps of a mint elsewhere ran here; guesses at a passphrase cost little."""
    monkeypatch.setattr(seeds, "LOG_N", 10)
    monkeypatch.setenv("PENNYPOST_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PENNYPOST_MINT_URLS", ELSEWHERE)
    asyncio.run(_run_once(tmp_path))
    return tmp_path


async def _run_once(folder: Path, **settings: str) -> bytes:
    async with open_house(folder, mint_urls=ELSEWHERE, **settings) as house:
        assert house.office.foreign is not None
        return house.office.foreign.seed


def test_the_seed_file(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "office.seed"
    plain = path.read_text().strip()
    told: list[str] = []

    def did(code: int, *arguments: str) -> Any:
        monkeypatch.setattr(sys, "argv", ["pennypost", "office", *arguments, "--json"])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, talk = capsys.readouterr()
        told.append(out + talk)
        assert (ended.value.code or 0) == code, out + talk
        return json.loads(out)

    def let_in(name: str) -> None:
        monkeypatch.setenv("PENNYPOST_OFFICE_SEED_PASSPHRASE_FILE", str(folder / name))

    (folder / "first").write_text(WORDS + "\n")
    (folder / "second").write_text("another " + WORDS)
    (folder / "short").write_text("elevenchars")
    assert did(3, "seed", "encrypt")["error"] == "passphrase", "nobody is there to ask"
    did(3, "seed", "encrypt", "--new-passphrase-file", str(folder / "short"))
    assert path.read_text().strip() == plain
    assert did(0, "seed", "encrypt", "--new-passphrase-file", str(folder / "first")) == {"seed": "encrypted"}
    assert is_sealed(path.read_text()) and stat.S_IMODE(path.stat().st_mode) == 0o600
    did(0, "treasury", "list")
    assert did(10, "treasury", "backup", str(folder / "a"))["error"] == "office-seed-locked"
    with pytest.raises(OfficeSeedLocked):
        asyncio.run(_run_once(folder))
    let_in("second")
    assert did(10, "treasury", "backup", str(folder / "a"))["error"] == "office-seed-locked"
    assert did(10, "seed", "decrypt")["error"] == "office-seed-locked"
    let_in("first")
    did(0, "treasury", "backup", str(folder / "a"))
    assert asyncio.run(_run_once(folder, office_seed_passphrase=WORDS)).hex() == plain
    did(0, "seed", "change-passphrase", "--new-passphrase-file", str(folder / "second"))
    did(10, "treasury", "backup", str(folder / "b"))
    let_in("second")
    did(0, "treasury", "backup", str(folder / "b"))
    assert did(0, "seed", "decrypt") == {"seed": "in clear"}
    assert path.read_text().strip() == plain
    assert did(10, "treasury", "backup", str(folder / "c"))["error"] == "office-seed-locked", "not encrypted any more"
    monkeypatch.delenv("PENNYPOST_OFFICE_SEED_PASSPHRASE_FILE")
    did(0, "treasury", "backup", str(folder / "c"))
    path.unlink()
    assert did(10, "seed", "encrypt", "--new-passphrase-file", str(folder / "first"))["error"] == "no-office"
    assert not [text for text in told if plain in text or WORDS in text]
