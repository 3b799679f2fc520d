"""A short way for stamps that look like one before: most tokens of a client differ in a secret and a signature alone.

    token ─▶ bytes ─┬─ equal to an accepted token but for one secret and one C ─▶ its proof, for half the work
                    └─ anything else ─▶ None: the full reader decides, and what it accepts is learned

A shape is learned only from a token whose secret and C stand in it once each, so their places are those of the fields
and not of a memo that repeats them. What is between them is compared byte for byte: the CBOR is then the same.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from typing import NamedTuple

from pennypost_mint.api import Keyset

SECRET, POINT = 64, 33
"""Bytes of a secret in hex, as wallets make them, and of a C. A secret that is a lock is longer."""

MOST = 64
"""Shapes remembered; the oldest goes first."""

_PREFIX = "cashuB"
_HEX = re.compile(rb"[0-9a-f]{64}")
_URLSAFE = bytes.maketrans(b"-_", b"+/")


class Shape(NamedTuple):
    """What an accepted token was besides its secret and its C, and where those begin."""

    keyset: Keyset
    amount: int
    secret: int
    C: int
    rest: tuple[bytes, bytes, bytes]


class Shapes:
    """Shapes of one mint's stamps. `origin` is part of the key, for it is one of the names of the mint."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str], Shape] = {}

    def clear(self) -> None:
        """The keysets have changed."""
        self._known.clear()

    def read(self, token: str, origin: str) -> tuple[Shape, str, str] | None:
        """The shape of a token, its secret and its C in hex; None for the full reader."""
        shape = self._known.get((len(token), origin))
        if shape is None:
            return None
        data = _decode(token)
        if data is None or _rest(data, shape.secret, shape.C) != shape.rest:
            return None
        secret, C = data[shape.secret : shape.secret + SECRET], data[shape.C : shape.C + POINT]
        if C[0] not in (2, 3) or not _HEX.fullmatch(secret):
            return None
        return shape, secret.decode(), C.hex()

    def learn(self, token: str, origin: str, keyset: Keyset, amount: int, secret: str, C: str) -> None:
        """A token of one proof that the full reader accepted."""
        data, text, point = _decode(token), secret.encode(), bytes.fromhex(C)
        if data is None or not _HEX.fullmatch(text) or data.count(text) != 1 or data.count(point) != 1:
            return
        at, C_at = data.index(text), data.index(point)
        if len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[len(token), origin] = Shape(keyset, amount, at, C_at, _rest(data, at, C_at))


def _decode(token: str) -> bytes | None:
    if not token.startswith(_PREFIX) or not token.isascii():
        return None
    digits = token[len(_PREFIX) :].encode().translate(_URLSAFE)
    try:
        return a2b_base64(digits + b"==="[: -len(digits) % 4], strict_mode=True)
    except ValueError:
        return None


def _rest(data: bytes, secret: int, C: int) -> tuple[bytes, bytes, bytes]:
    """What is before, between and behind the two."""
    if secret < C:
        return data[:secret], data[secret + SECRET : C], data[C + POINT :]
    return data[:C], data[C + POINT : secret], data[secret + SECRET :]
