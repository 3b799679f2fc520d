"""Identities, and how people are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from pennypost.home import IDENTITY, Home
from pennypost.keys import identity_of, import_identity, load_identity, new_identity, person
from pennypost.protocol import nip19, secp
from pennypost.protocol.errors import HomeUnusable, InvalidKey, KeyExists

SECRET = bytes(31) + b"\x03"
PUB = secp.xonly(SECRET)


def test_new_and_load(tmp_path: Path) -> None:
    home = Home(tmp_path / "bob")
    assert load_identity(home) is None
    made = new_identity(home)
    assert load_identity(Home(tmp_path / "bob")) == made
    with pytest.raises(KeyExists):
        new_identity(home)


@pytest.mark.parametrize("text", [nip19.encode_nsec(SECRET), SECRET.hex(), f"  {SECRET.hex()}\n"])
def test_import(text: str) -> None:
    home = Home(None)
    assert import_identity(home, text) == identity_of(SECRET)
    with pytest.raises(KeyExists):
        import_identity(home, text)


@pytest.mark.parametrize(
    "text", ["", "nsec1", "00" * 32, "ff" * 32, nip19.encode_npub(PUB), SECRET.hex().upper()[:-1] + "F"]
)
def test_import_refuses(text: str) -> None:
    with pytest.raises(InvalidKey):
        import_identity(Home(None), text)


def test_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / IDENTITY).write_text("nsec1nonsense")
    with pytest.raises(HomeUnusable):
        load_identity(Home(tmp_path))


@pytest.mark.parametrize("text", [nip19.encode_npub(PUB), PUB.hex(), f"nostr:{nip19.encode_npub(PUB)}"])
def test_person(text: str) -> None:
    assert person(text) == PUB


@pytest.mark.parametrize(
    "text", ["", "bob", nip19.encode_nsec(SECRET), "ff" * 32, PUB.hex()[:-2], nip19.encode_npub(PUB)[:-1] + "q"]
)
def test_no_person(text: str) -> None:
    with pytest.raises(InvalidKey):
        person(text)


def test_text_shows_no_secret() -> None:
    identity = identity_of(SECRET)
    for text in (repr(identity), str(identity)):
        assert SECRET.hex() not in text and identity.nsec not in text and repr(SECRET) not in text
