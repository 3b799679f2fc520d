"""Negentropy's answering side: whatever two sides hold, the asking one learns the difference; nothing breaks it."""

from __future__ import annotations

import contextlib
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol.errors import InvalidSync
from pennypost.protocol.negentropy import Records, answer
from tests.protocol.asker import Asker, fingerprint, number

LIMIT = 60_000


def records_of(chance: random.Random, count: int, times: int) -> list[tuple[int, bytes]]:
    """Random records, some of whose ids differ in their last byte alone."""
    found: list[tuple[int, bytes]] = []
    for _ in range(count):
        identifier = chance.randbytes(32)
        if found and chance.random() < 0.2:
            identifier = found[-1][1][:31] + chance.randbytes(1)
        found.append((chance.randrange(times), identifier))
    return found


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 3, 1_000_000]), st.sampled_from([4_096, 6_000, LIMIT]))
def test_the_difference_is_learned(seed: int, times: int, limit: int) -> None:
    """Few and many records, in one second or far apart, whatever fits into a message."""
    chance = random.Random(seed)
    both = records_of(chance, chance.choice([0, 1, 40, 700]), times)
    ours, theirs = (records_of(chance, chance.choice([0, 1, 31, 300]), times) for _ in range(2))
    held = Records(both + ours)

    def ask(message: bytes) -> bytes:
        found = answer(held, message, limit)
        assert len(found) <= limit
        return found

    asker = Asker(both + theirs, chance)
    asker.reconcile(ask)
    known, asked = set(both + ours), set(both + theirs)
    assert asker.need == {identifier for _, identifier in known - asked}
    assert asker.have == {identifier for _, identifier in asked - known}


def test_equal_sides_say_so_at_once() -> None:
    records = records_of(random.Random(1), 1_000, 50)
    message = b"\x61" + number(0) + number(0) + number(1) + fingerprint(sorted(records))
    assert answer(Records(records), message, LIMIT) == b"\x61"
    assert answer(Records([]), b"\x61\0\0\1" + fingerprint([]), LIMIT) == b"\x61"


def test_another_version() -> None:
    """We say which one we speak."""
    for version in (0x60, 0x62, 0x6F):
        assert answer(Records([]), bytes([version]) + b"whatever", LIMIT) == b"\x61"


BAD: list[tuple[str, bytes]] = [
    ("empty", b""),
    ("no negentropy", b"\x70"),
    ("a bound without a mode", b"\x61\0\0"),
    ("a time that does not end", b"\x61" + b"\xff" * 9),
    ("a time over 64 bits", b"\x61" + b"\xff" * 10 + b"\0\0\0"),
    ("a prefix of 33 bytes", b"\x61\1\x21" + bytes(33) + b"\0"),
    ("a prefix cut short", b"\x61\1\x20" + bytes(8)),
    ("mode 3", b"\x61\0\0\3"),
    ("a fingerprint cut short", b"\x61\0\0\1" + bytes(15)),
    ("2^63 ids", b"\x61\0\0\2" + number(2**63)),
    ("two ids, one sent", b"\x61\0\0\2\2" + bytes(32)),
    ("ranges that go back", b"\x61" + number(6) + b"\1\x09\0" + number(1) + b"\1\x08\0"),
    ("behind infinity", b"\x61\0\0\0" + number(1) + b"\1\1\0" + b"\1\0\3"),
]


@pytest.mark.parametrize(("name", "message"), BAD, ids=[name for name, _ in BAD])
def test_bad_messages(name: str, message: bytes) -> None:
    with pytest.raises(InvalidSync):
        answer(Records([(7, bytes(32))]), message, LIMIT)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_no_message_breaks_it(data: bytes) -> None:
    held = Records([(second % 7, bytes([second]) * 32) for second in range(100)])
    for message in (data, b"\x61" + data):
        with contextlib.suppress(InvalidSync):
            assert len(answer(held, message, 4_096)) <= 4_096


def test_a_hundred_thousand_records_cost_little() -> None:
    """A frame full of ranges that all differ: the answer and the time it takes are bounded."""
    chance = random.Random(1)
    held = Records([(chance.randrange(10**9), chance.randbytes(32)) for _ in range(100_000)])
    crowded = b"\x61" + b"".join(number(100_000) + b"\0\1" + bytes(16) for _ in range(6_000))
    began = time.thread_time()
    assert len(answer(held, crowded, LIMIT)) <= LIMIT
    assert time.thread_time() - began < 2


def test_records() -> None:
    held = Records([(2, b"b" * 32), (1, b"a" * 32), (2, b"b" * 32)])
    assert len(held) == 2 and held.at(0) == (1, b"a" * 32)
    for bad in ([(2**64 - 1, bytes(32))], [(1, bytes(31))]):
        with pytest.raises(ValueError):
            Records(bad)
