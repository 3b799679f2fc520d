"""Locked proofs for tests: keys with numbers for names, secrets written by hand, witnesses as wallets write them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

from pennypost.protocol import secp
from pennypost.protocol.nuts import BlindedMessage, Proof
from pennypost.protocol.witness import sig_all_hash

PREIMAGE = bytes(31) + b"\1"
HASH = sha256(PREIMAGE).hexdigest()
PAST, FUTURE = "1", "99999999999"
"""Values of a locktime tag."""
KEYSET = "01" + "ab" * 32
AUX = bytes(32)


def secret_key(number: int) -> bytes:
    """The 32-byte secret of a test key."""
    return sha256(b"test key %d" % number).digest()


def key(number: int) -> str:
    """The compressed public key of a test key."""
    return secp.point(secret_key(number)).hex()


def twin(number: int) -> str:
    """The same key with the other parity prefix."""
    written = key(number)
    return ("03" if written.startswith("02") else "02") + written[2:]


def secret_of(kind: str, data: str, *tags: Sequence[object], nonce: str = "n") -> str:
    """A condition as text, however wrong its tags are (NUT-10)."""
    return json.dumps([kind, {"nonce": nonce, "data": data, "tags": [list(tag) for tag in tags]}])


def p2pk(*tags: Sequence[object], data: int | str = 1, nonce: str = "n") -> str:
    """A P2PK secret; `data` is a test key's number or a text."""
    return secret_of("P2PK", key(data) if isinstance(data, int) else data, *tags, nonce=nonce)


def htlc(*tags: Sequence[object], data: str = HASH, nonce: str = "n") -> str:
    """An HTLC secret, by default for PREIMAGE."""
    return secret_of("HTLC", data, *tags, nonce=nonce)


def signature(message: str | bytes, signer: int, aux: bytes = AUX) -> str:
    """A test key's signature over the SHA-256 of a text, or over 32 bytes."""
    message32 = message if isinstance(message, bytes) else sha256(message.encode()).digest()
    return secp.schnorr_sign(secret_key(signer), message32, aux).hex()


def witness(signatures: Iterable[str] | None = None, **more: Any) -> str:
    """A witness with these signatures and whatever else."""
    fields = more if signatures is None else {"signatures": list(signatures)} | more
    return json.dumps(fields)


def signed(secret: str, *signers: int, **more: Any) -> str:
    """The witness of an input signed alone."""
    return witness([signature(secret, signer) for signer in signers], **more)


def proof(secret: str, witness: str | None = None, amount: int = 8) -> Proof:
    """A proof that is locked but signed by no mint."""
    return Proof(amount, KEYSET, secret, key(0), witness)


def output(number: int = 0, amount: int = 8) -> BlindedMessage:
    """An output that is a point like any other."""
    return BlindedMessage(amount, KEYSET, key(1_000 + number))


def signed_together(
    secrets: Sequence[str], outputs: Sequence[BlindedMessage], *signers: int, **more: Any
) -> list[Proof]:
    """Inputs with one witness for the whole swap, in the first."""
    inputs = [proof(secret) for secret in secrets]
    message32 = sig_all_hash(inputs, outputs)
    first = witness([signature(message32, signer) for signer in signers], **more)
    return [proof(secrets[0], first), *inputs[1:]]
