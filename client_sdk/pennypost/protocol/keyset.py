"""Keysets: the mint's public keys by amount, and the id that follows from them (NUT-02).

    {amount: K} + unit + fee + final expiry ──keyset_id_v2──▶ 66 hex digits, first two "01"
    {amount: K}                             ──keyset_id_v1──▶ 16 hex digits, first two "00" (older)
    id ──short_id──▶ its first 16 digits, as tokens may carry them ──resolve_id──▶ the one known id they begin

A wallet computes the id of every keyset it is given: a mint that hands out other keys under a known id is found out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final

from pennypost.protocol.errors import StampUnknownKeyset

SHORT_ID_DIGITS: Final = 16

_ID: Final = re.compile(r"00[0-9a-f]{14}|01[0-9a-f]{64}")
_SHORT_ID: Final = re.compile(r"01[0-9a-f]{14}")


def is_keyset_id(text: str) -> bool:
    """Whether this is a full keyset id: version 2 (66 digits) or version 1 (16), in lower-case hex."""
    return _ID.fullmatch(text) is not None


def keyset_id_v2(
    keys: Mapping[int, bytes], unit: str, input_fee_ppk: int | None = 0, final_expiry: int | None = None
) -> str:
    """The id of a keyset, 66 hex digits (NUT-02, Keyset ID V2).

    `keys` are 33-byte points by amount, `input_fee_ppk` thousandths of the unit per input, `final_expiry` Unix seconds;
    a fee or expiry of 0 or None is left out of the hash.
    """
    preimage = ",".join(f"{amount}:{keys[amount].hex()}" for amount in sorted(keys)) + f"|unit:{unit.lower()}"
    if input_fee_ppk:
        preimage += f"|input_fee_ppk:{input_fee_ppk}"
    if final_expiry:
        preimage += f"|final_expiry:{final_expiry}"
    return "01" + sha256(preimage.encode()).hexdigest()


def keyset_id_v1(keys: Mapping[int, bytes]) -> str:
    """The older id of a keyset, 16 hex digits (NUT-02, V1 Keysets); `keys` are 33-byte points by amount."""
    return "00" + sha256(b"".join(keys[amount] for amount in sorted(keys))).hexdigest()[:14]


def short_id(keyset_id: str) -> str:
    """The first 16 digits of an id; of a version 1 id that is all of it (NUT-00, Short keyset ID)."""
    return keyset_id[:SHORT_ID_DIGITS]


def resolve_id(text: str, known_ids: Iterable[str]) -> str:
    """The known keyset id that `text` is, or that it is the short form of (NUT-00, Short keyset ID).

    Raises StampUnknownKeyset when there is none, or more than one.
    """
    if is_keyset_id(text):
        if text in known_ids:
            return text
        raise StampUnknownKeyset
    if not _SHORT_ID.fullmatch(text):
        raise StampUnknownKeyset
    found = {known for known in known_ids if known.startswith(text)}
    if len(found) > 1:
        raise StampUnknownKeyset("its short id fits more than one keyset")
    if not found:
        raise StampUnknownKeyset
    return found.pop()
