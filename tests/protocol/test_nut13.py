from __future__ import annotations

from typing import Any

import pytest

from pennypost.protocol import nut13
from tests.protocol.vectors import load

NUT13 = load("nut13.json")
SEED = nut13.mnemonic_seed(NUT13["mnemonic"])


@pytest.mark.parametrize("vector", [NUT13["version1"], NUT13["version2"]], ids=["version1", "version2"])
def test_vectors(vector: dict[str, Any]) -> None:
    derived = [nut13.derive(SEED, vector["id"], counter) for counter in range(5)]
    assert [secret for secret, _ in derived] == vector["secrets"]
    assert [r.hex() for _, r in derived] == vector["r"]
    assert nut13.is_derivable(vector["id"])


def test_a_passphrase_and_spelling() -> None:
    assert len(SEED) == 64
    assert nut13.mnemonic_seed(NUT13["mnemonic"], "x") != SEED
    # BIP-39 normalises: é may be one sign or two.
    assert nut13.mnemonic_seed("\u00e9") == nut13.mnemonic_seed("e\u0301")


@pytest.mark.parametrize(
    ("keyset_id", "counter"),
    [
        ("", 0),
        ("02" + "0" * 64, 0),
        ("01" + "0" * 14, 0),
        (NUT13["version2"]["id"].upper(), 0),
        (NUT13["version2"]["id"], -1),
        (NUT13["version2"]["id"], 1 << 64),
        (NUT13["version1"]["id"], -1),
        (NUT13["version1"]["id"], 1 << 31),
    ],
)
def test_what_cannot_be_derived(keyset_id: str, counter: int) -> None:
    with pytest.raises(ValueError):
        nut13.derive(SEED, keyset_id, counter)


@pytest.mark.parametrize(("version", "last"), [("version1", (1 << 31) - 1), ("version2", (1 << 64) - 1)])
def test_the_last_counter(version: str, last: int) -> None:
    secret, r = nut13.derive(SEED, NUT13[version]["id"], last)
    assert len(secret) == 64
    assert len(r) == 32
