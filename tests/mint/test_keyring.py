"""The seed and what follows from it: made once, kept in its file, recognised at every start."""

from __future__ import annotations

import asyncio
import dataclasses
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from pennypost.protocol import secp
from pennypost.protocol.errors import ConfigurationError, KeysetUnknown, SeedMismatch
from pennypost.protocol.keyset import keyset_id_v2
from pennypost_migrations import upgrade
from pennypost_mint.api import Keyring
from pennypost_mint.keyring import AMOUNTS, derive_keyset, derive_secret
from pennypost_mint.runtime.database import Database, database_url, open_database
from pennypost_mint.runtime.settings import Settings
from pennypost_mint.tables import keysets
from tests.mint.desk import open_desk, settings_for

SEED = bytes(range(32))


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return settings_for(tmp_path / "data", database_url)


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    await upgrade(database_url(settings.database_url, settings.data_dir))
    opened = open_database(settings.database_url, settings.data_dir)
    yield opened
    await opened.close()


async def test_the_first_start_makes_a_seed_that_only_its_owner_reads(database: Database, settings: Settings) -> None:
    keyring = await Keyring.open(database, settings)
    mode = settings.seed_file.stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    assert len(bytes.fromhex(settings.seed_file.read_text().strip())) == 32
    assert not list(settings.seed_file.parent.glob(".seed-*"))
    [keyset] = keyring.keysets
    assert (keyset.unit, keyset.active, keyset.input_fee_ppk, keyset.final_expiry) == ("sat", True, 0, None)
    assert keyset.id == keyset_id_v2(keyset.keys, "sat")
    assert tuple(keyset.keys) == AMOUNTS


async def test_the_next_start_has_the_same_keys(database: Database, settings: Settings) -> None:
    first, second = await Keyring.open(database, settings), await Keyring.open(database, settings)
    assert first.keysets == second.keysets
    assert first.identity == second.identity


async def test_the_given_seed_file_is_used(database: Database, settings: Settings, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.write_text(SEED.hex() + "\n")
    keyring = await Keyring.open(database, settings.model_copy(update={"mint_seed_file": given}))
    assert keyring.active() == derive_keyset(SEED, 0, "sat", active=True, input_fee_ppk=0, final_expiry=None)
    assert not settings.seed_file.exists()


async def test_another_seed_refuses_to_start(database: Database, settings: Settings) -> None:
    await Keyring.open(database, settings)
    stored = await database.read(lambda c: c.execute(select(keysets)).all())
    settings.seed_file.write_text(SEED.hex())
    with pytest.raises(SeedMismatch):
        await Keyring.open(database, settings)
    assert await database.read(lambda c: c.execute(select(keysets)).all()) == stored
    assert settings.seed_file.read_text() == SEED.hex()


async def test_a_lost_seed_is_not_replaced_by_a_new_one(database: Database, settings: Settings) -> None:
    await Keyring.open(database, settings)
    settings.seed_file.unlink()
    with pytest.raises(SeedMismatch):
        await Keyring.open(database, settings)
    assert not settings.seed_file.exists()


@pytest.mark.parametrize("text", ["", "zz" * 32, "AB" * 32, "ab" * 31, "ab" * 33, "ab" * 31 + "é", "٠" * 64])
async def test_a_seed_file_that_is_none_is_refused(database: Database, settings: Settings, text: str) -> None:
    settings.seed_file.parent.mkdir(parents=True, exist_ok=True)
    settings.seed_file.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        await Keyring.open(database, settings)
    assert not text or text not in str(refused.value)


async def test_a_folder_for_a_seed_file_is_refused(database: Database, settings: Settings) -> None:
    settings.seed_file.mkdir(parents=True)
    with pytest.raises(ConfigurationError):
        await Keyring.open(database, settings)


async def test_two_first_starts_at_once_agree(database: Database, settings: Settings) -> None:
    rings = await asyncio.gather(*(Keyring.open(database, settings) for _ in range(5)))
    assert {ring.active().id for ring in rings} == {rings[0].active().id}


async def test_first_starts_with_two_seeds_on_one_database_leave_one(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    chosen: list[Settings] = []
    for name, seed in (("a", SEED), ("b", SEED[::-1])):
        (tmp_path / name).write_text(seed.hex())
        chosen.append(settings.model_copy(update={"mint_seed_file": tmp_path / name}))
    outcomes = await asyncio.gather(*(Keyring.open(database, each) for each in chosen), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Keyring", "SeedMismatch"]


async def test_neither_seed_nor_keys_are_in_the_database_or_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = settings_for(tmp_path)
    async with open_desk(settings, listening=True) as desk:
        await desk.buy(1, 2)
        await desk.ask("/v1/swap", b"garbage")
        seed = settings.seed_file.read_text().strip()
        secrets = {key for keys in desk.keyring.secrets().values() for key in keys.values()} | {bytes.fromhex(seed)}
    written = b"".join(path.read_bytes() for path in tmp_path.glob("pennypost.sqlite*"))
    told = capfd.readouterr()
    assert len(written) > 10_000
    for secret in secrets:
        assert secret not in written
        assert secret.hex().encode() not in written
        assert secret.hex() not in told.out + told.err
    assert seed not in repr(desk.keyring.keysets)


def test_keys_are_told_apart_by_everything_they_depend_on() -> None:
    purposes = [(0, "sat"), (1, "sat"), (0, "usd")]
    made = [derive_keyset(SEED, *each, active=True, input_fee_ppk=0, final_expiry=None) for each in purposes]
    keys = [key for keyset in made for key in keyset.secrets.values()]
    assert len(set(keys)) == len(purposes) * len(AMOUNTS)
    assert all(secp.point(keyset.secrets[1]) == keyset.keys[1] for keyset in made)
    assert derive_secret(SEED, "identity") not in keys
    assert derive_secret(SEED, "identity") != derive_secret(SEED[::-1], "identity")


def test_the_derivation_does_not_change() -> None:
    # A change here would make every stamp ever sold worthless.
    keyset = derive_keyset(SEED, 0, "sat", active=True, input_fee_ppk=0, final_expiry=None)
    assert keyset.id == "019aba781311b26a11f90a59d981f2aa06b6042b4c9f67c43e713be9686d588c18"


def test_keysets_are_found_by_id_position_and_unit() -> None:
    old = derive_keyset(SEED, 0, "sat", active=False, input_fee_ppk=0, final_expiry=100)
    new = derive_keyset(SEED, 1, "sat", active=True, input_fee_ppk=0, final_expiry=None)
    ring = Keyring([old, new], b"")
    assert ring.ids == (old.id, new.id)
    assert ring.get(old.id) is old
    assert ring.at(1) is new
    assert ring.active() is new
    assert set(ring.secrets()) == {old.id, new.id}
    assert (old.expired(99), old.expired(100), new.expired(10**12)) == (False, True, False)
    for missing in (lambda: ring.get("x"), lambda: ring.active("usd"), lambda: Keyring([], b"").active()):
        with pytest.raises(KeysetUnknown):
            missing()
    assert dataclasses.replace(new, active=False) != new
