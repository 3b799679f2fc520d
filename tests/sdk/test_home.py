"""The home directory: modes, atomic secrets, memory."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pennypost.home import DATABASE, IDENTITY, SEED, Home, default_home
from pennypost.protocol.errors import HomeUnusable


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secret_is_written_once_for_its_owner_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "a" / "bob")
    assert home.read(SEED) is None
    assert not (tmp_path / "a").exists()
    assert home.create(SEED, "first")
    assert not home.create(SEED, "second")
    assert home.read(SEED) == "first"
    assert mode(tmp_path / "a" / "bob") == 0o700
    assert mode(tmp_path / "a" / "bob" / SEED) == 0o600
    assert [each.name for each in (tmp_path / "a" / "bob").iterdir()] == [SEED]


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("os.link", no_links)
    home = Home(tmp_path)
    assert home.create(SEED, "first") and not home.create(SEED, "second")
    assert home.read(SEED) == "first" and mode(tmp_path / SEED) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == [SEED]


def test_database_file_is_private_and_open_modes_are_mended(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create(IDENTITY, "nsec")
    (tmp_path / IDENTITY).chmod(0o644)
    path = home.database()
    assert path == tmp_path / DATABASE
    assert mode(tmp_path / DATABASE) == mode(tmp_path / IDENTITY) == 0o600


def test_memory() -> None:
    home = Home(None)
    assert home.create(SEED, "first") and not home.create(SEED, "second")
    assert home.read(SEED) == "first" and home.database() is None


def test_a_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "bob").write_text("")
    with pytest.raises(HomeUnusable):
        Home(tmp_path / "bob").create(SEED, "x")


def test_a_secret_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / SEED).write_bytes(b"\xff\xfe")
    with pytest.raises(HomeUnusable):
        Home(tmp_path).read(SEED)


def test_default_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PENNYPOST_HOME", str(tmp_path / "here"))
    assert default_home() == tmp_path / "here"
    monkeypatch.delenv("PENNYPOST_HOME")
    assert default_home().name == "pennypost"


def test_text_shows_no_secret() -> None:
    home = Home(None)
    home.create(SEED, "secret")
    assert "secret" not in repr(home)
