"""Text in groups of five bits, with a checksum that catches typing errors (BIP-173, Bech32).

    prefix, groups ──encode──▶ "prefix1…checksum" ──decode──▶ prefix, groups
    bytes ──regroup(8, 5)──▶ groups of five bits ──regroup(5, 8)──▶ bytes

Nostr's identifiers (NIP-19) and Lightning invoices (BOLT 11) are written so, both without BIP-173's limit of 90
characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

ALPHABET: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
CHECKSUM: Final = 6
"""Groups of the checksum."""

_VALUES: Final = {char: value for value, char in enumerate(ALPHABET)}
_CHARACTERS: Final = bytes.maketrans(bytes(range(32)), ALPHABET.encode())
_GENERATOR: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def encode(prefix: str, groups: Sequence[int]) -> str:
    """The text of a lower-case prefix and numbers below 32, with its checksum."""
    rest = _polymod([*_expand(prefix), *groups, *[0] * CHECKSUM]) ^ 1
    checksum = [(rest >> 5 * (CHECKSUM - 1 - place)) & 31 for place in range(CHECKSUM)]
    return f"{prefix}1{bytes([*groups, *checksum]).translate(_CHARACTERS).decode()}"


def decode(text: str, most: int) -> tuple[str, list[int]] | None:
    """Prefix in lower case, and the groups without the checksum, of a text of at most `most` characters.

    None for mixed case, other characters, a wrong checksum, or an empty prefix.
    """
    if len(text) > most or not text.isascii() or (text != text.lower() and text != text.upper()):
        return None
    prefix, separator, rest = text.lower().rpartition("1")
    groups = [_VALUES.get(char, -1) for char in rest]
    if not prefix or not separator or len(groups) < CHECKSUM or min(groups) < 0:
        return None
    if _polymod([*_expand(prefix), *groups]) != 1:
        return None
    return prefix, groups[:-CHECKSUM]


def regroup(data: Iterable[int], given: int, wanted: int) -> list[int]:
    """The bits of `data`, `given` to each number, as numbers of `wanted` bits; the last one is filled with zeros."""
    groups: list[int] = []
    buffer = held = 0
    for value in data:
        buffer = buffer << given | value
        held += given
        while held >= wanted:
            held -= wanted
            groups.append(buffer >> held)
            buffer &= (1 << held) - 1
    if held:
        groups.append(buffer << (wanted - held))
    return groups


def _expand(prefix: str) -> list[int]:
    return [*(ord(char) >> 5 for char in prefix), 0, *(ord(char) & 31 for char in prefix)]


def _polymod(values: Iterable[int]) -> int:
    rest = 1
    for value in values:
        rest = (rest & 0x1FFFFFF) << 5 ^ value ^ _REMAINDERS[rest >> 25]
    return rest


def _remainder(top: int) -> int:
    """What a group of five bits becomes when it leaves the checksum at the top."""
    rest = 0
    for bit, generator in enumerate(_GENERATOR):
        if top >> bit & 1:
            rest ^= generator
    return rest


_REMAINDERS: Final = tuple(map(_remainder, range(32)))
