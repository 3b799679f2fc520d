"""Locks read as rules: what is none, what nobody can spend, and what a wallet makes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol.errors import LockMalformed
from pennypost.protocol.lock import Lock, lock_of, lock_secret
from pennypost.protocol.proof import MAX_SECRET
from tests.support.locks import FUTURE, HASH, PAST, htlc, key, p2pk, secret_of, twin

NONCE = bytes(range(32))
LOCKED = Lock("P2PK", key(1))


@pytest.mark.parametrize(
    ("secret", "lock"),
    [
        (p2pk(), LOCKED),
        (json.dumps(["P2PK", {"nonce": "n", "data": key(1)}]), LOCKED),
        (p2pk(["sigflag", "SIG_INPUTS"]), LOCKED),
        (p2pk(["sigflag", "SIG_ALL"]), Lock("P2PK", key(1), sig_all=True)),
        (p2pk(["pubkeys", key(2), key(3)]), Lock("P2PK", key(1), (key(2), key(3)))),
        (p2pk(["n_sigs", "2"], ["pubkeys", key(2)]), Lock("P2PK", key(1), (key(2),), 2)),
        (p2pk(["n_sigs", "1"]), LOCKED),
        (p2pk(["locktime", PAST]), Lock("P2PK", key(1), locktime=1)),
        (p2pk(["locktime", FUTURE]), Lock("P2PK", key(1), locktime=99_999_999_999)),
        (p2pk(["locktime", "9" * 19]), Lock("P2PK", key(1), locktime=10**19 - 1)),
        (p2pk(["refund", key(2)]), Lock("P2PK", key(1), refund=(key(2),))),
        (
            p2pk(["locktime", PAST], ["refund", key(1), key(2)], ["n_sigs_refund", "2"]),
            Lock("P2PK", key(1), locktime=1, refund=(key(1), key(2)), n_sigs_refund=2),
        ),
        (p2pk(data=key(1).upper()[:2] + key(1)[2:].upper()), Lock("P2PK", key(1)[:2] + key(1)[2:].upper())),
        (htlc(), Lock("HTLC", HASH)),
        (htlc(data=HASH.upper()), Lock("HTLC", HASH.upper())),
        (htlc(["pubkeys", key(1)], ["n_sigs", "1"]), Lock("HTLC", HASH, (key(1),))),
    ],
)
def test_a_lock_is_read(secret: str, lock: Lock) -> None:
    assert lock_of(secret) == lock


@pytest.mark.parametrize(
    "secret",
    [
        "a" * 64,
        '["P2PK"]',
        json.dumps(["P2PK", {"data": key(1)}]),
        secret_of("p2pk", key(1)),
        secret_of("P2PKX", key(1)),
        secret_of("", key(1)),
        secret_of("P2SH", "anything", ["n_sigs", "0"], ["n_sigs", "0"]),
        json.dumps(["nobody knows", {"nonce": "n", "data": "d", "tags": [[]]}]),
    ],
)
def test_what_is_no_lock(secret: str) -> None:
    assert lock_of(secret) is None


BAD_KEYS = ["", "02", "02" + "a" * 63, "02" + "a" * 65, "02" + "g" * 64, "04" + "a" * 64, "a" * 64, key(1) + "\n", "x"]
BAD_NUMBERS = ["0", "-1", "+1", "1.0", "1e3", "0x1", "1_0", " 1", "1 ", "01", "١", "１", "x", "NaN", "9" * 20, "1\n"]

MALFORMED: list[tuple[str, str]] = [
    *((f"{name} {value!r}", p2pk([name, value])) for name in ("n_sigs", "locktime") for value in BAD_NUMBERS),
    *((f"n_sigs_refund {value!r}", p2pk(["refund", key(2)], ["n_sigs_refund", value])) for value in BAD_NUMBERS),
    *((f"data {value!r}", p2pk(data=value)) for value in BAD_KEYS),
    *((f"pubkeys {value!r}", p2pk(["pubkeys", value])) for value in BAD_KEYS),
    *((f"refund {value!r}", p2pk(["refund", value])) for value in BAD_KEYS),
    *((f"hash {value!r}", htlc(data=value)) for value in ("", HASH[:-1], HASH + "0", HASH[:-1] + "g", HASH + "\n")),
    *(
        (f"{tag[0]} twice", p2pk(["pubkeys", key(2)], ["refund", key(3)], tag, tag))
        for tag in (["sigflag", "SIG_INPUTS"], ["n_sigs", "1"], ["locktime", PAST], ["n_sigs_refund", "1"])
    ),
    ("pubkeys twice", p2pk(["pubkeys", key(2)], ["pubkeys", key(3)])),
    ("refund twice", p2pk(["refund", key(2)], ["refund", key(3)])),
    ("an unknown tag", p2pk(["memo", "hello"])),
    ("an unknown tag twice", p2pk(["memo", "a"], ["memo", "b"])),
    ("a tag in upper case", p2pk(["N_SIGS", "1"])),
    *((f"{name} without a value", p2pk([name])) for name in ("sigflag", "n_sigs", "locktime", "pubkeys", "refund")),
    *((f"{name} with two values", p2pk([name, "1", "1"])) for name in ("n_sigs", "locktime")),
    ("sigflag with two values", p2pk(["sigflag", "SIG_INPUTS", "SIG_ALL"])),
    *((f"sigflag {value!r}", p2pk(["sigflag", value])) for value in ("sig_all", "SIG_NONE", "SIG_ALL ")),
    ("n_sigs over the keys", p2pk(["n_sigs", "2"])),
    ("n_sigs over the keys of an HTLC", htlc(["n_sigs", "1"])),
    ("n_sigs_refund over the keys", p2pk(["refund", key(2)], ["n_sigs_refund", "2"])),
    ("n_sigs_refund without keys", p2pk(["n_sigs_refund", "1"])),
    ("a key twice", p2pk(["pubkeys", key(1)])),
    ("a key twice in pubkeys", p2pk(["pubkeys", key(2), key(2)])),
    ("twin keys", p2pk(["pubkeys", twin(1)])),
    ("twin keys in other hex case", p2pk(["pubkeys", twin(1)[:2] + twin(1)[2:].upper()])),
    ("twin keys in refund", p2pk(["refund", key(2), twin(2)])),
    ("twin keys of an HTLC", htlc(["pubkeys", key(2), twin(2)])),
    ("an empty tag", p2pk([])),
    ("a tag with an empty value", p2pk(["pubkeys", key(2), ""])),
    ("a locktime that is a number", p2pk(["locktime", 1])),
    ("tags an object", json.dumps(["P2PK", {"nonce": "n", "data": key(1), "tags": {}}])),
    ("a field twice", p2pk()[:-2] + f', "data": "{key(2)}"}}]'),
]


@pytest.mark.parametrize("secret", [row[1] for row in MALFORMED], ids=[row[0] for row in MALFORMED])
def test_what_nobody_can_spend(secret: str) -> None:
    with pytest.raises(LockMalformed) as caught:
        lock_of(secret)
    assert (caught.value.code, caught.value.cashu, caught.value.status) == ("lock-malformed", 10001, 400)


def test_the_same_key_may_be_in_both_ways() -> None:
    lock = lock_of(p2pk(["locktime", PAST], ["refund", twin(1)]))
    assert lock is not None
    assert lock.keys == lock.refund_keys == (bytes.fromhex(key(1))[1:],)


def test_a_locktime_is_over_when_it_has_passed() -> None:
    lock = Lock("P2PK", key(1), locktime=1_000)
    assert [lock.expired(now) for now in (999, 1_000, 1_001)] == [False, False, True]
    assert not LOCKED.expired(1 << 62)


def test_a_secret_is_made_in_its_shortest_form() -> None:
    assert json.loads(lock_secret(LOCKED, NONCE)) == ["P2PK", {"nonce": NONCE.hex(), "data": key(1), "tags": []}]
    lock = Lock("HTLC", HASH, (key(1), key(2)), 2, 99, (key(3), key(4)), 2, True)
    assert json.loads(lock_secret(lock, NONCE))[1]["tags"] == [
        ["sigflag", "SIG_ALL"],
        ["pubkeys", key(1), key(2)],
        ["n_sigs", "2"],
        ["refund", key(3), key(4)],
        ["n_sigs_refund", "2"],
        ["locktime", "99"],
    ]


KEYS = [key(number) for number in range(20)]


@pytest.mark.parametrize(
    "changes",
    [
        {"data": "x"},
        {"kind": "P2SH"},
        {"pubkeys": (key(1),)},
        {"pubkeys": (twin(1),)},
        {"n_sigs": 0},
        {"n_sigs": 2},
        {"n_sigs": -1},
        {"n_sigs": 1 << 70},
        {"locktime": 0},
        {"locktime": -1},
        {"refund": (key(2),)},
        {"n_sigs_refund": 2, "locktime": 9},
        {"pubkeys": tuple(KEYS[2:])},
        {"pubkeys": tuple(KEYS[2:9]), "n_sigs": 8},
        {"refund": tuple(KEYS[2:10]), "n_sigs_refund": 8, "locktime": 9},
    ],
)
def test_a_lock_that_could_not_be_opened_is_not_made(changes: dict[str, Any]) -> None:
    with pytest.raises(LockMalformed):
        lock_secret(msgspec.structs.replace(LOCKED, **changes), NONCE)


def test_seven_signatures_have_room_in_a_witness() -> None:
    for lock in (Lock("P2PK", KEYS[0], tuple(KEYS[1:8]), 7), Lock("HTLC", HASH, tuple(KEYS[:8]), 7)):
        assert lock_of(lock_secret(lock, NONCE)) == lock


@st.composite
def locks(draw: st.DrawFn) -> Lock:
    """Well-formed locks of every shape that fits."""
    keys = draw(st.lists(st.sampled_from(KEYS), max_size=5, unique=True))
    refund = draw(st.lists(st.sampled_from(KEYS), max_size=4, unique=True))
    locktime = draw(st.integers(1, 10**19 - 1)) if refund else draw(st.none() | st.integers(1, 10**12))
    kind = draw(st.sampled_from(["P2PK", "HTLC"]))
    data, pubkeys = (keys[0], keys[1:]) if kind == "P2PK" and keys else (HASH, keys)
    return Lock(
        "P2PK" if data != HASH else "HTLC",
        data,
        tuple(pubkeys),
        draw(st.integers(1, max(1, len(keys)))),
        locktime,
        tuple(refund),
        draw(st.integers(1, max(1, len(refund)))),
        draw(st.booleans()),
    )


@settings(max_examples=100)
@given(locks())
def test_what_is_made_is_read_as_the_same(lock: Lock) -> None:
    secret = lock_secret(lock, NONCE)
    assert lock_of(secret) == lock
    assert len(secret) <= MAX_SECRET


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(KEYS),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)
names = st.sampled_from(["sigflag", "pubkeys", "n_sigs", "locktime", "refund", "n_sigs_refund", "x"])
values = st.sampled_from(["SIG_ALL", "1", "2", "0", PAST, *KEYS[:3]])


@settings(max_examples=200)
@given(
    st.sampled_from(["P2PK", "HTLC"]),
    st.sampled_from([KEYS[0], HASH, "x"]),
    st.lists(st.lists(names | values, max_size=4), max_size=4) | json_values,
)
def test_any_tags_are_a_lock_or_malformed(kind: str, data: str, tags: Any) -> None:
    try:
        lock = lock_of(json.dumps([kind, {"nonce": "n", "data": data, "tags": tags}]))
    except LockMalformed:
        return
    assert lock is not None
    assert len(set(lock.keys)) == len(lock.keys)
    assert lock.n_sigs >= 1
    assert lock.kind == "HTLC" or lock.n_sigs <= len(lock.keys)
