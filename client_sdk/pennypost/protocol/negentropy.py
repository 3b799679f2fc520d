"""Negentropy, protocol version 1: the answering side of set reconciliation (NIP-77, appendix).

    Records (sorted by time, then id) ──▶ answer(records, message, limit) ──▶ message

A message covers the whole of time and ids by ranges. For each range the asking side says nothing, a fingerprint of what
it has there, or its ids; the answer repeats what differs more finely: fingerprints of sixteen parts, or our ids. The
asking side learns what either lacks; we learn nothing, and keep nothing between two messages.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from hashlib import sha256
from typing import Final

from pennypost.protocol.errors import InvalidSync

VERSION: Final = 0x61
_VERSIONS: Final = range(0x60, 0x70)

ID: Final = 32
FINGERPRINT: Final = 16
_SKIP, _FINGERPRINT, _IDS = 0, 1, 2

PARTS: Final = 16
"""Into how many parts a range that differs is split; one of fewer than twice as many records is answered by its ids."""

_RESERVE: Final = 1_200
"""Bytes kept free in a message for the parts of one more range, and the one that ends the message early."""

_STRIDE: Final = 64
"""Records between two kept sums, so that a fingerprint adds up at most twice as many ids, however long its range."""

_INFINITY: Final = 2**64 - 1
_MODULUS: Final = 2**256

Bound = tuple[int, bytes]
"""A time and an id, of which trailing bytes may be missing; those count as zero."""

_FIRST: Final[Bound] = (0, b"")
_LAST: Final[Bound] = (_INFINITY, b"")


class Records:
    """A sorted set of (created_at, id of 32 bytes), 41 bytes each. Raises ValueError for a time of 2^64 - 1 or more."""

    def __init__(self, records: Iterable[tuple[int, bytes]]) -> None:
        ordered = sorted(set(records))
        if ordered and (ordered[-1][0] >= _INFINITY or any(len(identifier) != ID for _, identifier in ordered)):
            raise ValueError("records are times below 2^64 - 1 and ids of 32 bytes")
        self._times = array("Q", [time for time, _ in ordered])
        self._ids = b"".join(identifier for _, identifier in ordered)
        self._sums = [0]
        for start in range(0, len(ordered) - _STRIDE + 1, _STRIDE):
            self._sums.append((self._sums[-1] + self._add(start, start + _STRIDE)) % _MODULUS)

    def __len__(self) -> int:
        return len(self._times)

    def at(self, index: int) -> Bound:
        """The record of that number."""
        return self._times[index], self._ids[ID * index : ID * (index + 1)]

    def ids(self, begin: int, end: int) -> bytes:
        """The ids from `begin` up to, not with, `end`."""
        return self._ids[ID * begin : ID * end]

    def find(self, bound: Bound, begin: int) -> int:
        """The number of the first record, from `begin` on, that is not before the bound."""
        if bound[0] == _INFINITY:
            return len(self)
        padded = (bound[0], bound[1].ljust(ID, b"\0"))
        return bisect_left(range(len(self)), padded, begin, key=self.at)

    def fingerprint(self, begin: int, end: int) -> bytes:
        """NIP-77, Fingerprint Algorithm: 16 bytes."""
        total = self._sum(end) - self._sum(begin)
        return sha256((total % _MODULUS).to_bytes(ID, "little") + _varint(end - begin)).digest()[:FINGERPRINT]

    def _sum(self, end: int) -> int:
        kept = end // _STRIDE
        return self._sums[kept] + self._add(kept * _STRIDE, end)

    def _add(self, begin: int, end: int) -> int:
        ids = self._ids
        return sum(int.from_bytes(ids[at : at + ID], "little") for at in range(ID * begin, ID * end, ID))


def answer(records: Records, message: bytes, limit: int) -> bytes:
    """Our message for theirs, of `limit` bytes at most (4,096 or more).

    What does not fit is put off: the rest is covered by one fingerprint, and the asking side comes again. A message of
    another version is answered by the one byte of ours. Raises InvalidSync.
    """
    source = _Reader(message)
    version = source.byte()
    if version != VERSION:
        if version not in _VERSIONS:
            raise InvalidSync
        return bytes([VERSION])
    out = _Writer()
    begin, before, skipped = 0, _FIRST, False
    while not source.ended:
        bound, mode = source.bound(), source.varint()
        if (bound[0], bound[1].ljust(ID, b"\0")) < (before[0], before[1].ljust(ID, b"\0")):
            raise InvalidSync("its ranges go back")
        end = records.find(bound, begin)
        if mode == _FINGERPRINT:
            differs = source.take(FINGERPRINT) != records.fingerprint(begin, end)
        elif mode == _IDS:
            source.take(ID * source.varint())
            differs = True
        elif mode == _SKIP:
            differs = False
        else:
            raise InvalidSync
        if differs:
            if skipped:
                out.skip(before)
            room = (limit - _RESERVE - len(out)) // ID
            if mode == _IDS or end - begin < 2 * PARTS:
                if end - begin > max(room, 0):
                    # The ids that fit, up to the first that does not; what follows is put off.
                    end = begin + max(room, 0)
                    bound = records.at(end)
                out.ids(bound, records.ids(begin, end))
            else:
                _split(records, begin, end, bound, out)
            if len(out) > limit - _RESERVE:
                out.fingerprint(_LAST, records.fingerprint(end, len(records)))
                return bytes(out.written)
        skipped = not differs
        begin, before = end, bound
    return bytes(out.written)


def _split(records: Records, begin: int, end: int, bound: Bound, out: _Writer) -> None:
    """Fingerprints of PARTS parts of a range, as equal as can be."""
    size, larger = divmod(end - begin, PARTS)
    for part in range(PARTS):
        stop = begin + size + (part < larger)
        upper = bound if stop == end else _between(records.at(stop - 1), records.at(stop))
        out.fingerprint(upper, records.fingerprint(begin, stop))
        begin = stop


def _between(last: Bound, following: Bound) -> Bound:
    """The shortest bound that parts two records."""
    if last[0] != following[0]:
        return following[0], b""
    common = next(at for at in range(ID) if last[1][at] != following[1][at])
    return following[0], following[1][: common + 1]


class _Reader:
    """Takes a message apart. Raises InvalidSync where it ends too soon or holds what no message holds."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._at = 0
        self._time = 0

    @property
    def ended(self) -> bool:
        return self._at >= len(self._message)

    def take(self, count: int) -> bytes:
        found = self._message[self._at : self._at + count]
        if len(found) != count:
            raise InvalidSync
        self._at += count
        return found

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self) -> int:
        value = 0
        for _ in range(10):
            digit = self.byte()
            value = value << 7 | digit & 0x7F
            if not digit & 0x80:
                if value > _INFINITY:
                    break
                return value
        raise InvalidSync

    def bound(self) -> Bound:
        """Times are written as differences; 0 is infinity, which nothing comes behind."""
        offset, length = self.varint(), self.varint()
        if length > ID:
            raise InvalidSync
        self._time = _INFINITY if offset == 0 else min(self._time + offset - 1, _INFINITY)
        return self._time, self.take(length)


class _Writer:
    """Puts a message together."""

    def __init__(self) -> None:
        self.written = bytearray([VERSION])
        self._time = 0

    def __len__(self) -> int:
        return len(self.written)

    def skip(self, bound: Bound) -> None:
        self._bound(bound)
        self.written += _varint(_SKIP)

    def fingerprint(self, bound: Bound, fingerprint: bytes) -> None:
        self._bound(bound)
        self.written += _varint(_FINGERPRINT) + fingerprint

    def ids(self, bound: Bound, ids: bytes) -> None:
        self._bound(bound)
        self.written += _varint(_IDS) + _varint(len(ids) // ID) + ids

    def _bound(self, bound: Bound) -> None:
        time, prefix = bound
        self.written += _varint(0 if time == _INFINITY else 1 + time - self._time) + _varint(len(prefix)) + prefix
        self._time = time


def _varint(value: int) -> bytes:
    """Base 128, the most significant digit first."""
    digits = bytearray([value & 0x7F])
    while value := value >> 7:
        digits.append(value & 0x7F | 0x80)
    return bytes(reversed(digits))
