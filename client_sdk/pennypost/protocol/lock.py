"""Locks: what a P2PK or HTLC secret asks of whoever spends it (NUT-10, NUT-11, NUT-14).

    secret ── lock_of ──▶ None: nothing that a mint checks;  a Lock;  or LockMalformed: nobody can spend it
    Lock ── lock_secret ──▶ secret

    while the lock is active      P2PK: n_sigs of data and pubkeys        HTLC: the preimage, and n_sigs of pubkeys
    once its locktime is over     the same, or n_sigs_refund of refund;   without refund keys: nothing at all

The reading is strict, since a lock read in two ways is a lock that one side can open: each tag once and known, numbers
in plain decimal, compressed keys, no key twice in one way (NUT-11, Tags, Public Key Canonicalisation).
"""

from __future__ import annotations

import json
import re
from typing import Final, Literal

import msgspec

from pennypost.protocol.condition import Condition, spending_condition
from pennypost.protocol.errors import LockMalformed
from pennypost.protocol.proof import MAX_SECRET, MAX_WITNESS, utf8_length

# Keys of other wallets may come in upper case (NUT-11, Public Key Canonicalisation).
_KEY: Final = re.compile(r"0[23][0-9a-fA-F]{64}")
_HASH: Final = re.compile(r"[0-9a-fA-F]{64}")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,18}")
_FLAGS: Final = {"SIG_INPUTS": False, "SIG_ALL": True}
_LISTS: Final = ("pubkeys", "refund")
_NUMBERS: Final = ("n_sigs", "locktime", "n_sigs_refund")


class Lock(msgspec.Struct, frozen=True):
    """A lock as rules. `data` is the key of a P2PK (66 hex digits), the SHA-256 hash of an HTLC's preimage (64).

    `pubkeys` may sign like `data`, `refund` once `locktime` (Unix seconds) is over; `sig_all`: what is signed is the
    whole swap, not each input alone.
    """

    kind: Literal["P2PK", "HTLC"]
    data: str
    pubkeys: tuple[str, ...] = ()
    n_sigs: int = 1
    locktime: int | None = None
    refund: tuple[str, ...] = ()
    n_sigs_refund: int = 1
    sig_all: bool = False

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The 32-byte x of each key that may always sign; none for an HTLC that its preimage alone opens."""
        return _xonly((self.data, *self.pubkeys) if self.kind == "P2PK" else self.pubkeys)

    @property
    def refund_keys(self) -> tuple[bytes, ...]:
        """The 32-byte x of each key that may sign once the locktime is over."""
        return _xonly(self.refund)

    def expired(self, now: int) -> bool:
        """Whether its locktime is over at `now`, in Unix seconds (NUT-11, Expired Lock)."""
        return self.locktime is not None and now > self.locktime


def lock_of(secret: str) -> Lock | None:
    """The lock of a proof's secret; None for an ordinary one. Raises LockMalformed.

    A condition of another kind is no lock: a mint takes it as it takes any secret (NUT-10, Caution).
    """
    condition = spending_condition(secret)
    return None if condition is None else read_lock(condition)


def read_lock(condition: Condition) -> Lock | None:
    """The lock that a condition is; None for kinds other than P2PK and HTLC. Raises LockMalformed (NUT-11, Tags)."""
    kind, data = condition.kind, condition.data
    if kind != "P2PK" and kind != "HTLC":
        return None
    if condition.malformed:
        raise LockMalformed
    tags = {name: values for name, *values in condition.tags}
    if len(tags) != len(condition.tags):
        raise LockMalformed("a tag is there twice")
    numbers = {name: _number(tags.pop(name)) for name in _NUMBERS if name in tags}
    pubkeys, refund = (_keys(tags.pop(name, None)) for name in _LISTS)
    flag = tags.pop("sigflag", ["SIG_INPUTS"])
    if tags or len(flag) != 1 or flag[0] not in _FLAGS:
        raise LockMalformed("a tag, or the signature flag, is not known")
    if not (_KEY if kind == "P2PK" else _HASH).fullmatch(data):
        raise LockMalformed("its data is no key or hash")
    lock = Lock(
        kind,
        data,
        pubkeys,
        numbers.get("n_sigs", 1),
        numbers.get("locktime"),
        refund,
        numbers.get("n_sigs_refund", 1),
        _FLAGS[flag[0]],
    )
    for keys, counted, needed in (
        (lock.keys, "n_sigs" in numbers, lock.n_sigs),
        (lock.refund_keys, "n_sigs_refund" in numbers, lock.n_sigs_refund),
    ):
        if len(set(keys)) != len(keys):
            raise LockMalformed("a key is there twice")
        if counted and needed > len(keys):
            raise LockMalformed("it needs more signatures than it has keys")
    return lock


def lock_secret(lock: Lock, nonce: bytes) -> str:
    """The secret of a proof locked so; `nonce` is 32 random bytes.

    Raises LockMalformed for a lock that a mint would refuse, or that could never be opened: refund keys without a
    locktime, and more keys or signatures than secret and witness have room for.
    """
    condition = [lock.kind, {"nonce": nonce.hex(), "data": lock.data, "tags": _tags(lock)}]
    secret = json.dumps(condition, separators=(",", ":"))
    if lock_of(secret) != lock:
        raise LockMalformed
    if lock.refund and lock.locktime is None:
        raise LockMalformed("refund keys need a locktime")
    signatures = ["0" * 128] * max(lock.n_sigs, lock.n_sigs_refund)
    witness = witness_text(signatures, "0" * 64 if lock.kind == "HTLC" else None)
    if utf8_length(secret) > MAX_SECRET or utf8_length(witness) > MAX_WITNESS:
        raise LockMalformed("it has too many keys")
    return secret


def witness_text(signatures: list[str], preimage: str | None) -> str:
    """A witness as text (NUT-11 and NUT-14, Witness format)."""
    fields = {"preimage": preimage} if preimage is not None else {}
    return json.dumps(fields | {"signatures": signatures}, separators=(",", ":"))


def _tags(lock: Lock) -> list[list[str]]:
    tags: list[list[str]] = []
    if lock.sig_all:
        tags.append(["sigflag", "SIG_ALL"])
    for name, keys, count in (("pubkeys", lock.pubkeys, lock.n_sigs), ("refund", lock.refund, lock.n_sigs_refund)):
        if keys:
            tags.append([name, *keys])
        if count != 1:
            tags.append(["n_sigs" if name == "pubkeys" else "n_sigs_refund", str(count)])
    if lock.locktime is not None:
        tags.append(["locktime", str(lock.locktime)])
    return tags


def _number(values: list[str]) -> int:
    if len(values) != 1 or not _NUMBER.fullmatch(values[0]):
        raise LockMalformed("a number is none")
    return int(values[0])


def _keys(values: list[str] | None) -> tuple[str, ...]:
    if values is None:
        return ()
    if not values or not all(map(_KEY.fullmatch, values)):
        raise LockMalformed("a key is no compressed point")
    return tuple(values)


def _xonly(keys: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(key[2:]) for key in keys)
