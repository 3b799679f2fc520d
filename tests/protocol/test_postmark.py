"""Postmarks: signed over exactly these bytes, and nothing altered passes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pennypost.protocol.errors import OfficeMisbehaves
from pennypost.protocol.postmark import (
    Postmark,
    is_genuine,
    postmark_hash,
    postmark_json,
    read_postmark,
    sign_postmark,
)

SECRET, ID = (3).to_bytes(32), bytes(range(32, 64))
VECTOR: dict[str, Any] = {
    "office": "f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9",
    "stored_at": 1_700_000_000,
    "keep_until": 1_700_086_400,
    "sat": 2,
    "sig": "96b7b862ab2e96b1f550f01cc4bce45b08f34282ca7be879183ef1731ce2fee9"
    "0466fdbb610cdd9f16a4b958bd7eecc15c7b1d93a6fd5e8b6b4a19af939ba592",
}
"""Made with hashlib, struct and coincurve alone."""


def test_vector() -> None:
    office = bytes.fromhex(VECTOR["office"])
    hashed = postmark_hash(ID, office, 1_700_000_000, 1_700_086_400, 2)
    assert hashed.hex() == "d713057849221e81b329198d814c53d68e5596e3f84eac1e0a74e3003642769c"
    assert postmark_json(sign_postmark(SECRET, ID, 1_700_000_000, 1_700_086_400, 2)) == VECTOR
    assert is_genuine(read_postmark(VECTOR), ID.hex())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("office", "c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5"),
        ("office", "ff" * 32),
        ("stored_at", 1_700_000_001),
        ("keep_until", 1_700_086_399),
        ("sat", 3),
        ("sig", "00" * 64),
    ],
)
def test_altered(field: str, value: Any) -> None:
    assert not is_genuine(msgspec.structs.replace(read_postmark(VECTOR), **{field: value}), ID.hex())


@pytest.mark.parametrize("identifier", ["", "00" * 32, ID.hex().upper(), ID.hex() + "00", "x" * 64])
def test_another_event(identifier: str) -> None:
    assert not is_genuine(read_postmark(VECTOR), identifier)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "x",
        {},
        VECTOR | {"sat": -1},
        VECTOR | {"sat": 2.5},
        VECTOR | {"sat": True},
        VECTOR | {"stored_at": 2**64},
        VECTOR | {"office": "F9" * 32},
        VECTOR | {"sig": "00" * 63},
        VECTOR | {"office": VECTOR["office"] + "\n"},
        {key: value for key, value in VECTOR.items() if key != "keep_until"},
    ],
)
def test_malformed(value: object) -> None:
    with pytest.raises(OfficeMisbehaves):
        read_postmark(value)


def test_lengths() -> None:
    with pytest.raises(ValueError, match="32"):
        postmark_hash(b"", ID, 1, 1, 1)


def test_the_same_statement_has_the_same_signature() -> None:
    made: list[Postmark] = [sign_postmark(SECRET, ID, 1, 2, 3) for _ in range(2)]
    assert made[0] == made[1]
