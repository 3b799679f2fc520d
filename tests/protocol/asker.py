"""The asking side of negentropy, written for the tests alone and without haste: what it lacks, what the other lacks."""

from __future__ import annotations

import random
from collections.abc import Callable
from hashlib import sha256

INFINITY = 2**64 - 1
Record = tuple[int, bytes]


def number(value: int) -> bytes:
    """A varint."""
    digits = [value % 128]
    while value := value // 128:
        digits.insert(0, value % 128 + 128)
    return bytes(digits)


def fingerprint(records: list[Record]) -> bytes:
    """The sum of the ids, and how many they are, hashed."""
    total = sum(int.from_bytes(identifier, "little") for _, identifier in records) % 2**256
    return sha256(total.to_bytes(32, "little") + number(len(records))).digest()[:16]


class Asker:
    """Asks until it knows; ranges that differ are asked for by ids, or more finely, as chance has it."""

    def __init__(self, records: list[Record], chance: random.Random) -> None:
        self.records = sorted(records)
        self.chance = chance
        self.need: set[bytes] = set()
        self.have: set[bytes] = set()

    def reconcile(self, ask: Callable[[bytes], bytes], rounds: int = 200) -> int:
        """Runs to the end; returns the number of messages."""
        open_ranges: list[tuple[Record, Record]] = [((0, bytes(32)), (INFINITY, bytes(32)))]
        for turn in range(rounds):
            if not open_ranges:
                return turn
            open_ranges = self._read(ask(self._write(open_ranges)))
        raise AssertionError("it does not end")

    def _own(self, low: Record, high: Record) -> list[Record]:
        return [record for record in self.records if low <= record < high]

    def _write(self, ranges: list[tuple[Record, Record]]) -> bytes:
        out, time, reached = bytearray(b"\x61"), 0, (0, bytes(32))

        def bound(record: Record) -> bytes:
            nonlocal time
            if record[0] == INFINITY:
                return number(0) + number(0)
            prefix = record[1].rstrip(b"\0")
            made = number(record[0] - time + 1) + number(len(prefix)) + prefix
            time = record[0]
            return made

        for low, high in ranges:
            if low > reached:
                out += bound(low) + number(0)
            own = self._own(low, high)
            if self.chance.random() < 0.5:
                out += bound(high) + number(1) + fingerprint(own)
            else:
                out += bound(high) + number(2) + number(len(own)) + b"".join(identifier for _, identifier in own)
            reached = high
        return bytes(out)

    def _read(self, message: bytes) -> list[tuple[Record, Record]]:
        """Notes what ids tell; returns the ranges whose fingerprints differ."""
        assert message[0] == 0x61
        at, time, low, still = 1, 0, (0, bytes(32)), []

        def varint() -> int:
            nonlocal at
            value = 0
            while True:
                at += 1
                value = value * 128 + message[at - 1] % 128
                if message[at - 1] < 128:
                    return value

        while at < len(message):
            offset, length = varint(), varint()
            time = INFINITY if offset == 0 else time + offset - 1
            high = (time, message[at : at + length].ljust(32, b"\0"))
            at += length
            assert high >= low
            mode, own = varint(), self._own(low, high)
            if mode == 1:
                if message[at : at + 16] != fingerprint(own):
                    still.append((low, high))
                at += 16
            elif mode == 2:
                count = varint()
                theirs = {message[at + 32 * each : at + 32 * each + 32] for each in range(count)}
                at += 32 * count
                self.need |= theirs - {identifier for _, identifier in own}
                self.have |= {identifier for _, identifier in own} - theirs
            else:
                assert mode == 0
            low = high
        return still
