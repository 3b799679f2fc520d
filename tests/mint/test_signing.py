"""What the worker processes calculate."""

from __future__ import annotations

import pickle
import secrets

import pytest

from pennypost.protocol import bdhke, secp
from pennypost.protocol.errors import InvalidKey
from pennypost.protocol.witness import Claim, Way
from pennypost_mint.signing import (
    JOBS,
    BlindSignature,
    Refused,
    Signed,
    check_signature,
    sign_outputs,
    swap,
    verify_stamp,
)

KEY = bytes([7]) * 32
OTHER = bytes([8]) * 32
KEYS = {"id": {1: KEY, 2: OTHER}}


def stamp(secret: str = "s") -> tuple[str, int, str, str]:
    C = bdhke.sign(KEY, bdhke.hash_to_curve(secret.encode()))
    return ("id", 1, secret, C.hex())


def test_a_stamp_of_this_mint_is_known_by_its_y() -> None:
    assert verify_stamp(KEYS, *stamp("grüße")) == bdhke.hash_to_curve("grüße".encode())


@pytest.mark.parametrize(
    "proof",
    [
        ("no", 1, *stamp()[2:]),
        ("id", 4, *stamp()[2:]),
        ("id", 2, *stamp()[2:]),
        ("id", 1, "t", stamp()[3]),
        ("id", 1, "s", "02" + "ff" * 32),
        ("id", 1, "s", secp.point(KEY).hex()),
        ("id", 1, "s", ""),
        ("id", 1, "s", "zz"),
        ("id", 1, "s", stamp()[3] + "00"),
        ("id", 1, "s", "03" + stamp()[3][2:] if stamp()[3][1] == "2" else "02" + stamp()[3][2:]),
        ("id", 1, "\ud800", stamp()[3]),
    ],
)
def test_any_other_is_not(proof: tuple[str, int, str, str]) -> None:
    assert verify_stamp(KEYS, *proof) is None


def test_signatures_prove_their_key_and_are_the_same_each_time() -> None:
    b = bdhke.blind(b"x", secrets.token_bytes(32))
    [made] = sign_outputs(KEYS, [("id", 1, b)])
    assert isinstance(made, BlindSignature)
    assert bdhke.dleq_verify(secp.point(KEY), b, *made)
    assert not bdhke.dleq_verify(secp.point(OTHER), b, *made)
    assert sign_outputs(KEYS, [("id", 1, b)]) == [made]
    with pytest.raises(InvalidKey):
        sign_outputs(KEYS, [("id", 1, b"\x02" + b"\xff" * 32)])


def test_nothing_is_signed_beside_a_bad_proof_and_the_bad_one_is_named() -> None:
    b = bdhke.blind(b"x", secrets.token_bytes(32))
    good, forged = (*stamp(), None), ("id", 2, *stamp()[2:], None)
    results = swap(
        KEYS,
        [
            ([good], [("id", 1, b)]),
            ([good, forged], [("id", 1, b)]),
            ([good], [("id", 1, b), ("id", 1, b"\x02" + b"\xff" * 32)]),
            ([], []),
        ],
    )
    assert isinstance(results[0], Signed)
    assert results[1:] == [Refused(1, None), Refused(None, 1), Signed([], [])]


def test_a_witness_is_looked_at_once_its_proof_is_good() -> None:
    message, keys = bytes(32), (secp.xonly(KEY), secp.xonly(OTHER))
    claim = Claim(message, (secp.schnorr_sign(OTHER, message, bytes(32)),), (Way(keys, 1),))
    wanting = claim._replace(ways=(Way(keys, 2),))
    forged = ("id", 2, *stamp()[2:], claim)
    results = swap(KEYS, [([(*stamp(), claim)], []), ([(*stamp(), None), (*stamp(), wanting)], []), ([forged], [])])
    assert isinstance(results[0], Signed)
    assert results[1:] == [Refused(1, None, locked=True), Refused(0, None)]


def test_a_quotes_signature_may_be_over_either_hash() -> None:
    first, second, third = (bytes([n]) * 32 for n in range(3))
    pub, signature = secp.xonly(KEY), secp.schnorr_sign(KEY, second, bytes(32))
    cases = [(pub, [first, second], signature), (pub, [first, third], signature), (pub, [], signature)]
    assert check_signature(KEYS, cases) == [True, False, False]


def test_jobs_cross_a_process_border() -> None:
    assert pickle.loads(pickle.dumps(JOBS)) == JOBS
    result = swap(KEYS, [([(*stamp(), None)], [])])
    assert pickle.loads(pickle.dumps(result)) == result
