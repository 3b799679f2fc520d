"""Reads a cashuB token from CBOR (RFC 8949), accepting only what NUT-00 describes.

It is a bounded reader of exactly that shape, not a general decoder: a general one also decodes tags (numbers of a
billion digits, regular expressions, shared references), so that its input had to be walked through once before. One
walk that refuses whatever a token cannot contain is the smaller and the faster half of that (7 µs for one proof): no
tags, no indefinite lengths, no field twice, every length held against its limit and against what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pennypost.protocol.proof import (
    MAX_DEPTH,
    MAX_MEMO,
    MAX_MINT,
    MAX_SECRET,
    MAX_UNIT,
    MAX_WITNESS,
    Dleq,
    Entry,
    Proof,
    Token,
    checked_dleq,
    checked_proof,
    checked_token,
    malformed,
    resolved,
)

# The first byte of a CBOR item: three bits of major type, five of length (RFC 8949, section 3).
_NUMBER, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = 0x00, 0x40, 0x60, 0x80, 0xA0, 0xC0, 0xE0
_NULL: Final = 0xF6


class Reader:
    """Reads one cashuB token from CBOR (RFC 8949), accepting only what NUT-00 describes; unknown fields are skipped."""

    __slots__ = ("at", "data", "keep_dleq", "known_ids", "max_proofs", "skips")

    def __init__(self, data: bytes, known_ids: Sequence[str] | None, keep_dleq: bool, max_proofs: int) -> None:
        self.data = data
        self.at: int = 0
        self.known_ids, self.keep_dleq, self.max_proofs = known_ids, keep_dleq, max_proofs
        # Items that may be skipped: a DLEQ proof is seven.
        self.skips = 64 + 16 * max_proofs

    def read(self) -> Token:
        try:
            token = self._token()
        except IndexError:
            malformed("it is cut short")
        except UnicodeDecodeError:
            malformed("not UTF-8")
        if self.at != len(self.data):
            malformed("there is something after its end")
        return token

    def _token(self) -> Token:
        mint = unit = memo = None
        proofs: list[Proof] | None = None
        for _ in range(self._head(_MAP)):
            key = self._key()
            if key == 0x6D and mint is None:  # m
                mint = self._text(MAX_MINT)
            elif key == 0x75 and unit is None:  # u
                unit = self._text(MAX_UNIT)
            elif key == 0x74 and proofs is None:  # t
                proofs = []
                for _ in range(self._head(_ARRAY)):
                    self._group(proofs)
            elif key == 0x64 and memo is None:  # d
                memo = self._text_or_null(MAX_MEMO)
            else:
                self._skip_field(key, b"mutd")
        return checked_token(mint, unit, proofs, memo)

    def _group(self, proofs: list[Proof]) -> None:
        keyset = entries = None
        for _ in range(self._head(_MAP)):
            key = self._key()
            if key == 0x69 and keyset is None:  # i
                keyset = resolved(self._string(_BYTES, 33).hex(), self.known_ids)
            elif key == 0x70 and entries is None:  # p
                count = self._head(_ARRAY)
                if len(proofs) + count > self.max_proofs:
                    malformed("too many proofs")
                entries = [self._proof() for _ in range(count)]
            else:
                self._skip_field(key, b"ip")
        if keyset is None or not entries:
            malformed("a keyset id or its proofs are missing")
        for amount, secret, C, witness, dleq in entries:
            proofs.append(Proof(amount, keyset, secret, C, witness, dleq))

    def _proof(self) -> Entry:
        amount = secret = signature = witness = dleq = None
        for _ in range(self._head(_MAP)):
            key = self._key()
            if key == 0x61 and amount is None:  # a
                amount = self._head(_NUMBER)
            elif key == 0x73 and secret is None:  # s
                secret = self._text(MAX_SECRET)
            elif key == 0x63 and signature is None:  # c
                signature = self._string(_BYTES, 33).hex()
            elif key == 0x77 and witness is None:  # w
                witness = self._text_or_null(MAX_WITNESS)
            elif key == 0x64 and self.keep_dleq and dleq is None:  # d
                dleq = self._dleq()
            else:
                self._skip_field(key, b"ascw")
        return checked_proof(amount, secret, signature, witness, dleq)

    def _dleq(self) -> Dleq | None:
        if self._null():
            return None
        found: dict[str, object] = {}
        for _ in range(self._head(_MAP)):
            key = self._key()
            if key in b"esr" and chr(key) not in found:
                found[chr(key)] = self._string(_BYTES, 32).hex()
            else:
                self._skip_field(key, b"esr")
        return checked_dleq(found)

    def _head(self, major: int) -> int:
        """The number, length or count at the head of an item, which must be of this major type."""
        data, at = self.data, self.at
        low = data[at] - major
        if 0 <= low < 24:
            self.at = at + 1
            return low
        if low == 24:
            self.at = at + 2
            return data[at + 1]
        if not 25 <= low <= 27:
            # Another type, a tag, an indefinite length, or a reserved form.
            malformed()
        self.at = end = at + 1 + (1 << (low - 24))
        if end > len(data):
            raise IndexError
        return int.from_bytes(data[at + 1 : end])

    def _string(self, major: int, limit: int) -> bytes:
        length = self._head(major)
        if length > limit:
            malformed("a field is too long")
        start = self.at
        self.at = end = start + length
        if end > len(self.data):
            raise IndexError
        return self.data[start:end]

    def _text(self, limit: int) -> str:
        return self._string(_TEXT, limit).decode()

    def _text_or_null(self, limit: int) -> str | None:
        return None if self._null() else self._text(limit)

    def _null(self) -> bool:
        """Step over a null, if there is one."""
        null = self.data[self.at] == _NULL
        self.at += null
        return null

    def _key(self) -> int:
        """The key of a field, as its one character; 0 for a longer one, which no version of the token has."""
        data, at = self.data, self.at
        if data[at] == _TEXT + 1:
            self.at = at + 2
            return data[at + 1]
        self._text(64)
        return 0

    def _skip_field(self, key: int, known: bytes) -> None:
        if key in known:
            malformed("a field is in it twice")
        self._skip(0)

    def _skip(self, depth: int) -> None:
        """Step over a value that this version does not know (NUT-00: receivers must ignore unknown fields)."""
        self.skips -= 1
        if depth > MAX_DEPTH or not self.skips:
            malformed("it is nested too deeply, or too much of it is unknown")
        initial = self.data[self.at]
        major, low = initial & 0xE0, initial & 0x1F
        if major == _SIMPLE:
            # false, true, null, undefined; floating-point numbers of 2, 4 and 8 bytes
            if not 20 <= low <= 27 or low == 24:
                malformed()
            self.at += 1 + (1 << (low - 24) if low > 24 else 0)
        elif major in (_BYTES, _TEXT):
            self._string(major, len(self.data))
        else:
            count = self._head(major)
            if major == _TAG:
                malformed("there is a tag in it")
            if major in (_ARRAY, _MAP):
                for _ in range(count if major == _ARRAY else 2 * count):
                    self._skip(depth + 1)
