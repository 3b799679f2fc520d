"""A secret in a line of text that one passphrase opens.

    passphrase ── scrypt ──▶ key ── ChaCha20-Poly1305 ──▶ one line of JSON

The mint's seed file and the key ring of a home have this form, each under a name of its own, which is bound to what it
holds: the text of one does not open as the other. Salt (16 bytes) and nonce (12 bytes) are passed in and used once.
"""

from __future__ import annotations

import json
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from pennypost.protocol.errors import InvalidPayload

LOG_N: Final = 17
R: Final = 8
P: Final = 1
"""Cost of one guess at the passphrase: 128 MiB and about half a second (RFC 7914)."""

LEAST_LOG_N: Final = 10
MOST_LOG_N: Final = 20
"""A text that asks for more is refused: it would take the machine's memory."""


def is_sealed(text: str) -> bool:
    """Whether this text is of the sealed form."""
    return text.startswith("{")


def seal(secret: bytes, passphrase: str, *, name: str, salt: bytes, nonce: bytes, log_n: int = LOG_N) -> str:
    """The line of text that opens with the passphrase alone."""
    head = {name: 1, "kdf": "scrypt", "log_n": log_n, "r": R, "p": P, "salt": salt.hex()}
    sealed = ChaCha20Poly1305(_key(passphrase, salt, log_n)).encrypt(nonce, secret, _bound(head))
    return json.dumps(head | {"cipher": "chacha20-poly1305", "nonce": nonce.hex(), "sealed": sealed.hex()})


def unseal(text: str, passphrase: str, *, name: str, size: int) -> bytes | None:
    """The secret of `size` bytes; None for a wrong passphrase, or a text that was changed.

    Raises InvalidPayload for what is not of this form and name.
    """
    try:
        given: dict[str, Any] = json.loads(text)
        head = {field: given[field] for field in (name, "kdf", "log_n", "r", "p", "salt")}
        salt, nonce, sealed = (bytes.fromhex(given[field]) for field in ("salt", "nonce", "sealed"))
        log_n = head["log_n"]
        if (head[name], head["kdf"], head["r"], head["p"], given["cipher"]) != (1, "scrypt", R, P, "chacha20-poly1305"):
            raise ValueError
        if type(log_n) is not int or not LEAST_LOG_N <= log_n <= MOST_LOG_N:
            raise ValueError
        if len(nonce) != 12 or not 16 <= len(salt) <= 64 or len(sealed) != size + 16:
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidPayload("it is not of the sealed form") from None
    try:
        return ChaCha20Poly1305(_key(passphrase, salt, log_n)).decrypt(nonce, sealed, _bound(head))
    except InvalidTag:
        return None


def _key(passphrase: str, salt: bytes, log_n: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=1 << log_n, r=R, p=P).derive(passphrase.encode())


def _bound(head: dict[str, Any]) -> bytes:
    return json.dumps(head, sort_keys=True).encode()
