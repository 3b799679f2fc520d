"""What one stamped event costs in libsecp256k1 alone: its signature (Schnorr) and its stamp (hash, ECDH, compare).

Measured by our own functions and by bare coincurve calls with prepared values, so that nothing of our code counts as
unavoidable; a ratio to the ceiling takes the cheaper of the two.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from hashlib import sha256

import coincurve
import msgspec

from pennypost.protocol import bdhke, secp
from tests.bench.processes import CORES, pool

SAMPLES = 256
SECONDS = 0.4


class Ceiling(msgspec.Struct):
    """CPU microseconds of a pair (event signature and stamp), measured on `cores` cores at once."""

    own_us: float
    bare_us: float
    schnorr_us: float
    stamp_us: float
    cores: int = 1

    @property
    def pair_us(self) -> float:
        """The cheaper of both ways."""
        return min(self.own_us, self.bare_us)

    @property
    def pairs_per_second(self) -> float:
        """What these cores could do if they did nothing else."""
        return self.cores * 1e6 / self.pair_us


Pair = tuple[bytes, bytes, bytes, bytes, bytes, bytes]


def _pairs() -> list[Pair]:
    key = secrets.token_bytes(31).rjust(32, b"\1")
    made: list[Pair] = []
    for _ in range(SAMPLES):
        author, message = secrets.token_bytes(31).rjust(32, b"\1"), secrets.token_bytes(32)
        stamp = secrets.token_hex(32).encode()
        C = secp.ecdh_point(key, bdhke.hash_to_curve(stamp))
        signature = secp.schnorr_sign(author, message, secrets.token_bytes(32))
        made.append((secp.xonly(author), message, signature, key, stamp, C))
    return made


def _event(pair: Pair) -> bool:
    return secp.schnorr_verify(pair[0], pair[1], pair[2])


def _stamp(pair: Pair) -> bool:
    return bdhke.verify(pair[3], pair[4], pair[5])


def _own(pair: Pair) -> bool:
    return _event(pair) and _stamp(pair)


class _Bare:
    """The same through coincurve's public classes, the mint's key prepared once."""

    def __init__(self, key: bytes) -> None:
        self.key = coincurve.PrivateKey(key)

    def __call__(self, pair: Pair) -> bool:
        public, message, signature, _, stamp, C = pair
        if not coincurve.PublicKeyXOnly(public).verify(signature, message):
            return False
        digest, counter = sha256(b"Secp256k1_HashToCurve_Cashu_" + stamp).digest(), 0
        while True:
            try:
                point = b"\2" + sha256(digest + counter.to_bytes(4, "little")).digest()
                return hmac.compare_digest(self.key.ecdh(point), sha256(C).digest())
            except ValueError:  # half of all x lie on no point
                counter += 1


def _time(check: Callable[[Pair], bool], pairs: list[Pair], seconds: float) -> float:
    """CPU microseconds of one check."""
    begun, done = time.process_time(), 0
    while (used := time.process_time() - begun) < seconds:
        for pair in pairs:
            if not check(pair):
                raise AssertionError("a good signature was refused")
        done += len(pairs)
    return 1e6 * used / done


def measure(seconds: float = SECONDS) -> Ceiling:
    """On one core, in this process."""
    pairs = _pairs()
    bare = _Bare(pairs[0][3])
    return Ceiling(
        own_us=_time(_own, pairs, seconds),
        bare_us=_time(bare, pairs, seconds),
        schnorr_us=_time(_event, pairs, seconds / 2),
        stamp_us=_time(_stamp, pairs, seconds / 2),
    )


def measure_all(seconds: float = SECONDS) -> Ceiling:
    """On all cores at once: CPU of a pair on average, pairs a second in sum."""
    with pool() as processes:
        found = list(processes.map(measure, [seconds] * CORES))
    return Ceiling(
        own_us=sum(each.own_us for each in found) / CORES,
        bare_us=sum(each.bare_us for each in found) / CORES,
        schnorr_us=sum(each.schnorr_us for each in found) / CORES,
        stamp_us=sum(each.stamp_us for each in found) / CORES,
        cores=CORES,
    )
