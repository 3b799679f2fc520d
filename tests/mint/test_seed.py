"""The seed's file: sealed with a passphrase or not, replaced whole, opened by the right passphrase alone."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from pennypost.protocol.errors import ConfigurationError, SeedLocked
from pennypost_mint import seed as seeds
from pennypost_mint.seed import is_sealed, make_seed, read_seed, seal, unseal, write_seed

SEED = bytes(range(32))
WORDS = "correct horse battery staple"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guesses that cost little: the real cost is tried once below."""
    monkeypatch.setattr(seeds, "LOG_N", 10)


def test_a_sealed_seed_opens_with_its_passphrase_alone() -> None:
    text = seal(SEED, WORDS)
    assert is_sealed(text) and not is_sealed(SEED.hex())
    assert unseal(text, WORDS) == SEED
    assert SEED.hex() not in text and WORDS not in text
    assert seal(SEED, WORDS) != text
    for wrong in ("", WORDS + " ", WORDS.upper(), "é" * 20):
        with pytest.raises(SeedLocked) as refused:
            unseal(text, wrong)
        assert refused.value.code == "seed-locked" and SEED.hex() not in str(refused.value)


def test_it_is_sealed_at_the_documented_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "LOG_N", 17)
    text = seal(SEED, WORDS)
    head = json.loads(text)
    assert (head["kdf"], head["log_n"], head["r"], head["p"]) == ("scrypt", 17, 8, 1)
    assert unseal(text, WORDS) == SEED


FIELDS = ("pennypost_seed", "kdf", "log_n", "r", "p", "salt", "cipher", "nonce", "sealed")
VALUES = (None, 0, 2, 1 << 40, True, 10.0, "", "zz", "00", "00" * 16, "00" * 1_000, [], {})


@pytest.mark.parametrize("name", FIELDS)
def test_a_changed_field_opens_nothing(name: str) -> None:
    text = seal(SEED, WORDS)
    for value in VALUES:
        changed = json.dumps(json.loads(text) | {name: value})
        with pytest.raises(ConfigurationError):
            unseal(changed, WORDS)


@pytest.mark.parametrize("text", ["{", "{}", '{"pennypost_seed": 1}', "{" * 4_000, '{"a": NaN}', '{"log_n": 1e999}'])
def test_what_is_no_sealed_seed_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        unseal(text, WORDS)


def test_the_file_is_sealed_at_the_first_start(tmp_path: Path) -> None:
    path = tmp_path / "new" / "mint.seed"
    made = make_seed(path, WORDS)
    assert is_sealed(path.read_text()) and made.hex() not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_seed(path, WORDS) == made
    assert make_seed(path, WORDS) == made, "a seed that is there is never replaced"
    assert os.listdir(path.parent) == ["mint.seed"]


def test_passphrase_and_file_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "mint.seed"
    assert read_seed(path, WORDS) is None
    write_seed(path, SEED.hex())
    assert read_seed(path, "") == SEED
    with pytest.raises(SeedLocked):
        read_seed(path, WORDS)
    write_seed(path, seal(SEED, WORDS))
    assert read_seed(path, WORDS) == SEED
    for wrong in ("", "another passphrase"):
        with pytest.raises(SeedLocked):
            read_seed(path, wrong)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mint.seed"
    write_seed(path, SEED.hex())
    before = path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigurationError):
        write_seed(path, seal(SEED, WORDS))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["mint.seed"]


def test_the_mode_is_the_owners_alone_whatever_it_was(tmp_path: Path) -> None:
    path = tmp_path / "mint.seed"
    path.write_text(SEED.hex())
    path.chmod(0o644)
    write_seed(path, SEED.hex())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_device_that_never_ends_is_not_read_to_its_end() -> None:
    with pytest.raises(ConfigurationError):
        read_seed(Path("/dev/zero"), "")
