"""Witnesses: what unlocks proofs that are locked (NUT-11, NUT-14), checked by a mint and made by a wallet.

    mint     inputs, outputs, time ── check_witnesses ──▶ one Unlocking an input      hashes only
             Unlocking.claim ── proved ──▶ whether enough keys signed                 the curve, in worker processes

    wallet   with_preimage ─▶ sign_inputs, or sign_all once the outputs are known ─▶ inputs of the request

SIG_INPUTS signs the secret of each input. SIG_ALL signs the whole swap, once, in the witness of its first input:
    secret_0 ‖ C_0 ‖ … ‖ amount_0 ‖ B_0 ‖ …   (and for a melt the quote's id)
The older form of that message, without C and amounts, is not taken: it lets a mint or a middleman change both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256
from hmac import compare_digest
from typing import Final, NamedTuple, cast

import msgspec

from pennypost.protocol import secp
from pennypost.protocol.answers import BlindedMessage
from pennypost.protocol.condition import spending_condition
from pennypost.protocol.errors import InvalidKey, ProofLocked, TooManyInputs
from pennypost.protocol.lock import Lock, lock_of, read_lock, witness_text
from pennypost.protocol.proof import MAX_WITNESS, Proof, utf8_length

MAX_CHECKS: Final = 4_096
"""Most pairs of signature and key that one request may make us try: some 0.2 s of one core."""

_SIGNATURE: Final = re.compile(r"[0-9a-f]{128}")
_PREIMAGE: Final = re.compile(r"[0-9a-f]{64}")


class Way(NamedTuple):
    """One way to unlock: `needed` of these keys (32 bytes each) have signed (NUT-11, Multisig)."""

    keys: tuple[bytes, ...]
    needed: int


class Claim(NamedTuple):
    """Signatures (64 bytes each, none twice) that must satisfy one of the ways over the 32-byte message."""

    message: bytes
    signatures: tuple[bytes, ...]
    ways: tuple[Way, ...]


class Unlocking(NamedTuple):
    """How an input is unlocked: what is still to be proved, and the witness to keep for NUT-07; None where nothing."""

    claim: Claim | None
    witness: str | None


class Witness(NamedTuple):
    """What a witness holds that can unlock anything: signatures of 64 bytes, none twice, and a 32-byte preimage."""

    signatures: tuple[bytes, ...]
    preimage: bytes | None


UNLOCKED: Final = Unlocking(None, None)
_EMPTY: Final = Witness((), None)


def read_witness(text: str | None) -> Witness:
    """What can be used of a witness; the rest, and what cannot be read at all, is as if it were not there."""
    if text is None or utf8_length(text) > MAX_WITNESS:
        return _EMPTY
    try:
        value: object = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return _EMPTY
    if not isinstance(value, dict):
        return _EMPTY
    fields = cast("dict[str, object]", value)
    given, preimage = fields.get("signatures"), fields.get("preimage")
    signatures = cast("list[object]", given) if isinstance(given, list) else []
    good = [each for each in signatures if isinstance(each, str) and _SIGNATURE.fullmatch(each)]
    return Witness(
        tuple(bytes.fromhex(each) for each in dict.fromkeys(good)),
        bytes.fromhex(preimage) if isinstance(preimage, str) and _PREIMAGE.fullmatch(preimage) else None,
    )


def check_witnesses(
    proofs: Sequence[Proof], outputs: Sequence[BlindedMessage], now: int, quote: str = ""
) -> list[Unlocking]:
    """All that can be told of locks and witnesses without the curve, for each input; `now` in Unix seconds.

    Ordinary secrets, and conditions of a kind that is not known, need nothing. Raises LockMalformed for what nobody
    can spend, ProofLocked for inputs that do not go together under SIG_ALL, a missing or wrong preimage, and fewer
    signatures than any way needs, TooManyInputs for more to try than MAX_CHECKS. Whether signatures are good is for
    `proved`.
    """
    conditions = [spending_condition(proof.secret) for proof in proofs]
    locks = [None if condition is None else read_lock(condition) for condition in conditions]
    if not any(lock is not None and lock.sig_all for lock in locks):
        found = [
            UNLOCKED if lock is None else Unlocking(_claim(lock, proof, _hash(proof.secret), now), proof.witness)
            for lock, proof in zip(locks, proofs, strict=True)
        ]
        if sum(_tries(each.claim) for each in found if each.claim is not None) > MAX_CHECKS:
            raise TooManyInputs("their witnesses have too many signatures")
        return found
    first = locks[0]
    if first is None or any(condition != conditions[0] for condition in conditions):
        raise ProofLocked("under SIG_ALL all inputs have the same kind, data and tags")
    claim = _claim(first, proofs[0], sig_all_hash(proofs, outputs, quote), now)
    # The first witness unlocks them all, so it is what a preimage must be found in, whichever input is asked for.
    others = Unlocking(None, proofs[0].witness)
    return [Unlocking(claim, proofs[0].witness), *(others for _ in proofs[1:])]


def proved(claim: Claim) -> bool:
    """Whether the signatures satisfy one of the claim's ways; a key counts once, however often it signed."""
    return any(_satisfied(claim.message, claim.signatures, way) for way in claim.ways)


def verify_witnesses(
    proofs: Sequence[Proof], outputs: Sequence[BlindedMessage], now: int, quote: str = ""
) -> list[Unlocking]:
    """`check_witnesses` and `proved` at once. Raises LockMalformed, ProofLocked, TooManyInputs."""
    found = check_witnesses(proofs, outputs, now, quote)
    if not all(each.claim is None or proved(each.claim) for each in found):
        raise ProofLocked
    return found


def sig_all_hash(proofs: Sequence[Proof], outputs: Sequence[BlindedMessage], quote: str = "") -> bytes:
    """The 32 bytes that SIG_ALL signs: of a swap, or with `quote` of a melt (NUT-11, Message aggregation)."""
    parts = [part for proof in proofs for part in (proof.secret, proof.C)]
    parts += [part for output in outputs for part in (str(output.amount), output.B_)]
    return _hash("".join([*parts, quote]))


def is_sig_all(proofs: Sequence[Proof]) -> bool:
    """Whether any of these asks for a signature over the whole swap. Raises LockMalformed."""
    return any(lock is not None and lock.sig_all for lock in (lock_of(proof.secret) for proof in proofs))


def with_preimage(proofs: Sequence[Proof], preimage: bytes) -> list[Proof]:
    """The proofs, with this 32-byte preimage in the witness of each HTLC that it opens. Raises LockMalformed."""
    data = sha256(preimage).hexdigest()
    return [
        _with_witness(proof, read_witness(proof.witness).signatures, preimage)
        if (lock := lock_of(proof.secret)) is not None and lock.kind == "HTLC" and lock.data.lower() == data
        else proof
        for proof in proofs
    ]


def sign_inputs(proofs: Sequence[Proof], secret: bytes, aux: bytes) -> list[Proof]:
    """The proofs, signed by this 32-byte secret key where they are locked to it, each alone (NUT-11, SIG_INPUTS).

    `aux` is 32 random bytes. Proofs that are not locked to this key, or ask for SIG_ALL, come back as they are.
    Raises InvalidKey, LockMalformed.
    """
    pub = secp.xonly(secret)
    return [
        _signed(proof, _hash(proof.secret), secret, aux)
        if (lock := lock_of(proof.secret)) is not None and not lock.sig_all and pub in (*lock.keys, *lock.refund_keys)
        else proof
        for proof in proofs
    ]


def sign_all(
    proofs: Sequence[Proof], outputs: Sequence[BlindedMessage], secret: bytes, aux: bytes, quote: str = ""
) -> list[Proof]:
    """The inputs of exactly this swap, the first of them signed for all (NUT-11, SIG_ALL); `aux` is 32 random bytes.

    Raises InvalidKey for a key that the lock does not name, ProofLocked for inputs that do not go together,
    LockMalformed.
    """
    conditions = [spending_condition(proof.secret) for proof in proofs]
    lock = None if not conditions or conditions[0] is None else read_lock(conditions[0])
    if lock is None or not lock.sig_all or any(condition != conditions[0] for condition in conditions):
        raise ProofLocked("under SIG_ALL all inputs have the same kind, data and tags")
    if secp.xonly(secret) not in (*lock.keys, *lock.refund_keys):
        raise InvalidKey("the lock does not name this key")
    return [_signed(proofs[0], sig_all_hash(proofs, outputs, quote), secret, aux), *proofs[1:]]


def _claim(lock: Lock, proof: Proof, message: bytes, now: int) -> Claim | None:
    expired = lock.expired(now)
    if expired and not lock.refund:
        return None
    witness = read_witness(proof.witness)
    ways: list[Way] = []
    if lock.kind == "P2PK" or _opens(lock, witness):
        if not lock.keys:
            return None
        ways.append(Way(lock.keys, lock.n_sigs))
    if expired:
        ways.append(Way(lock.refund_keys, lock.n_sigs_refund))
    possible = tuple(way for way in ways if way.needed <= len(witness.signatures))
    if not possible:
        raise ProofLocked
    return Claim(message, witness.signatures, possible)


def _tries(claim: Claim) -> int:
    return len(claim.signatures) * sum(len(way.keys) for way in claim.ways)


def _opens(lock: Lock, witness: Witness) -> bool:
    return witness.preimage is not None and compare_digest(sha256(witness.preimage).digest(), bytes.fromhex(lock.data))


def _satisfied(message: bytes, signatures: Sequence[bytes], way: Way) -> bool:
    keys, missing = list(way.keys), way.needed
    for left, signature in zip(range(len(signatures), 0, -1), signatures, strict=True):
        if left < missing:
            break
        signer = next((key for key in keys if secp.schnorr_verify(key, message, signature)), None)
        if signer is not None:
            keys.remove(signer)
            missing -= 1
            if not missing:
                return True
    return False


def _hash(text: str) -> bytes:
    # A secret that was read as JSON may hold half of a surrogate pair; it then simply fits no signature.
    return sha256(text.encode(errors="surrogatepass")).digest()


def _signed(proof: Proof, message: bytes, secret: bytes, aux: bytes) -> Proof:
    witness, pub = read_witness(proof.witness), secp.xonly(secret)
    if any(secp.schnorr_verify(pub, message, signature) for signature in witness.signatures):
        return proof
    signature = secp.schnorr_sign(secret, message, aux)
    return _with_witness(proof, (*witness.signatures, signature), witness.preimage)


def _with_witness(proof: Proof, signatures: Sequence[bytes], preimage: bytes | None) -> Proof:
    text = witness_text([each.hex() for each in signatures], None if preimage is None else preimage.hex())
    return msgspec.structs.replace(proof, witness=text)
