"""What a blind signature with its DLEQ proof (NUT-12) costs beside the curve operations in it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

import msgspec

from pennypost.protocol import bdhke, secp

SAMPLES = 256
SECONDS = 0.5
ROUNDS = 3


class Signing(msgspec.Struct):
    """CPU microseconds of one signature with its proof, and of its curve operations alone."""

    signature_us: float
    curve_us: float

    @property
    def ratio(self) -> float:
        return self.signature_us / self.curve_us


def measure(seconds: float = SECONDS) -> Signing:
    """On one core, by turns; the cheapest turn of each counts."""
    key = secrets.token_bytes(31).rjust(32, b"\1")
    public = secp.point(key)
    blinded = [bdhke.blind(secrets.token_bytes(32), secrets.token_bytes(31).rjust(32, b"\1")) for _ in range(SAMPLES)]
    nonce = secrets.token_bytes(31).rjust(32, b"\1")

    def signed(B_: bytes) -> object:
        return bdhke.sign_with_dleq(key, public, B_)

    def curve(B_: bytes) -> object:
        """C_ = k·B_, R1 = r·G and R2 = r·B_, in constant time as they are there."""
        B = secp.parse(B_)
        return secp.ecdh_uncompressed(key, B), secp.create(nonce), secp.ecdh_uncompressed(nonce, B)

    turns = [(_time(signed, blinded, seconds), _time(curve, blinded, seconds)) for _ in range(ROUNDS)]
    return Signing(min(turn[0] for turn in turns), min(turn[1] for turn in turns))


def _time(work: Callable[[bytes], object], points: list[bytes], seconds: float) -> float:
    begun, done = time.process_time(), 0
    while (used := time.process_time() - begun) < seconds:
        for point in points:
            work(point)
        done += len(points)
    return 1e6 * used / done
