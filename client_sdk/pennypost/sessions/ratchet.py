"""X3DH and the Double Ratchet as this program uses them: which curve, which hash, which cipher, which bounds.

    Device (X3DH)    identity key, signed prekey, one-time prekeys ─▶ agree ─▶ 32 shared bytes ─▶ Ratchet
    Ratchet          X25519 · HKDF-SHA256 · HMAC-SHA256 · ChaCha20-Poly1305, one key for one message

The protocols are the libraries' (X3DH and DoubleRatchet); nothing of them is written here.
"""

from __future__ import annotations

import json
import secrets
import warnings
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from doubleratchet import (
    AuthenticationFailedException,
    DoSProtectionException,
    DuplicateMessageException,
    EncryptedMessage,
    Header,
)
from doubleratchet import DoubleRatchet as DoubleRatchetBase
from doubleratchet.aead import AEAD
from doubleratchet.recommended import HashFunction, diffie_hellman_ratchet_curve25519, kdf_hkdf, kdf_separate_hmacs
from x3dh import BaseState, Bundle, IdentityKeyFormat, KeyAgreementException
from x3dh import HashFunction as AgreementHash
from x3dh import Header as Agreement
from xeddsa import XEdDSAException

SKIPPED: Final = 1_000
"""Messages of one session that may be missing before one arrives, and keys kept for those that still may come."""

__all__ = [
    "Agreement",
    "Bundle",
    "Device",
    "Ratchet",
    "Repeated",
    "Sealed",
    "Unreadable",
]


_NONCE: Final = 12


class Unreadable(Exception):
    """This message opens under no key of ours."""


class Repeated(Unreadable):
    """This message was opened before."""


class _Cipher(AEAD):
    """ChaCha20-Poly1305 (RFC 8439): constant time without special instructions.

    A key is used once. Should an old copy of a home use one again, the random nonce keeps both texts apart.
    """

    @staticmethod
    async def encrypt(plaintext: bytes, key: bytes, associated_data: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE)
        return nonce + ChaCha20Poly1305(key).encrypt(nonce, plaintext, associated_data)

    @staticmethod
    async def decrypt(ciphertext: bytes, key: bytes, associated_data: bytes) -> bytes:
        try:
            return ChaCha20Poly1305(key).decrypt(ciphertext[:_NONCE], ciphertext[_NONCE:], associated_data)
        except (InvalidTag, ValueError):
            raise AuthenticationFailedException from None


class _RootChain(kdf_hkdf.KDF):
    @staticmethod
    def _get_hash_function() -> HashFunction:
        return HashFunction.SHA_256

    @staticmethod
    def _get_info() -> bytes:
        return b"pennypost/session-root/v1"


class _MessageChain(kdf_separate_hmacs.KDF):
    @staticmethod
    def _get_hash_function() -> HashFunction:
        return HashFunction.SHA_256


class _DoubleRatchet(DoubleRatchetBase):
    @staticmethod
    def _build_associated_data(associated_data: bytes, header: Header) -> bytes:
        numbers = header.previous_sending_chain_length, header.sending_chain_length
        return associated_data + header.ratchet_pub + b"".join(number.to_bytes(8, "big") for number in numbers)


_CHAINS: Final[dict[str, Any]] = {
    "diffie_hellman_ratchet_class": diffie_hellman_ratchet_curve25519.DiffieHellmanRatchet,
    "root_chain_kdf": _RootChain,
    "message_chain_kdf": _MessageChain,
    "message_chain_constant": b"\x01\x02",
    "dos_protection_threshold": SKIPPED,
    "max_num_skipped_message_keys": SKIPPED,
    "aead": _Cipher,
}


@dataclass(frozen=True, slots=True)
class Sealed:
    """One encrypted message: the ratchet's public key (32 bytes), the two chain lengths, the ciphertext."""

    ratchet: bytes
    previous: int
    number: int
    ciphertext: bytes

    @classmethod
    def of(cls, message: EncryptedMessage) -> Sealed:
        header = message.header
        return cls(
            header.ratchet_pub, header.previous_sending_chain_length, header.sending_chain_length, message.ciphertext
        )

    def message(self) -> EncryptedMessage:
        return EncryptedMessage(Header(self.ratchet, self.previous, self.number), self.ciphertext)


class Ratchet:
    """One side of a session; `associated_data` names both sides and goes into every message."""

    def __init__(self, ratchet: _DoubleRatchet, associated_data: bytes) -> None:
        self._ratchet, self._associated_data = ratchet, associated_data

    @classmethod
    async def begin(cls, shared: bytes, other: bytes, associated_data: bytes, text: bytes) -> tuple[Ratchet, Sealed]:
        """The side that writes first: `other` is the signed prekey agreed with (32 bytes)."""
        ratchet, message = await _DoubleRatchet.encrypt_initial_message(
            **_CHAINS,
            shared_secret=shared,
            recipient_ratchet_pub=other,
            message=text,
            associated_data=associated_data,
        )
        return cls(ratchet, associated_data), Sealed.of(message)

    @classmethod
    async def answer(cls, shared: bytes, own: bytes, associated_data: bytes, sealed: Sealed) -> tuple[Ratchet, bytes]:
        """The other side, from the first message that arrives; `own` is the signed prekey's secret.

        Raises Unreadable.
        """
        try:
            ratchet, text = await _DoubleRatchet.decrypt_initial_message(
                **_CHAINS,
                shared_secret=shared,
                own_ratchet_priv=own,
                message=sealed.message(),
                associated_data=associated_data,
            )
        except _FAILURES:
            raise Unreadable from None
        return cls(ratchet, associated_data), text

    async def encrypt(self, text: bytes) -> Sealed:
        """The next message; the state has moved on and must be saved before the message is sent."""
        return Sealed.of(await self._ratchet.encrypt_message(text, self._associated_data))

    async def decrypt(self, sealed: Sealed) -> bytes:
        """The text; the state has moved on. Raises Unreadable, Repeated; then it has not."""
        try:
            # The library warns on stderr where more than SKIPPED of the last chain are missing, and goes on without
            # them, as it should: how many are said to be missing is the sender's word. Nothing in it waits.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                return await self._ratchet.decrypt_message(sealed.message(), self._associated_data)
        except DuplicateMessageException:
            raise Repeated from None
        except _FAILURES:
            raise Unreadable from None

    def save(self) -> str:
        """The state, secret keys included, as JSON."""
        return json.dumps(self._ratchet.json)

    @classmethod
    def load(cls, saved: str, associated_data: bytes) -> Ratchet:
        """The other way."""
        return cls(_DoubleRatchet.from_json(json.loads(saved), **_CHAINS), associated_data)


_FAILURES: Final = (AuthenticationFailedException, DoSProtectionException, ValueError)
"""What the library raises for what strangers send; ValueError: keys of small order, and of wrong length."""


class _State(BaseState):
    @staticmethod
    def _encode_public_key(key_format: IdentityKeyFormat, pub: bytes) -> bytes:
        return key_format.value.encode() + pub


_NO_AGREEMENT: Final = (KeyAgreementException, XEdDSAException, ValueError)

_AGREEMENT: Final[dict[str, Any]] = {
    "identity_key_format": IdentityKeyFormat.ED_25519,
    "hash_function": AgreementHash.SHA_256,
    "info": b"pennypost/session/v1",
}


class Device:
    """The keys of one home: an identity key that names it, a signed prekey that is rotated, one-time prekeys."""

    def __init__(self, state: _State) -> None:
        self._state = state

    @classmethod
    def new(cls) -> Device:
        """Fresh keys."""
        return cls(_State.create(**_AGREEMENT))

    @property
    def bundle(self) -> Bundle:
        """The public keys; every one-time prekey that was not used yet among them."""
        return self._state.bundle

    @property
    def name(self) -> bytes:
        """The identity key, 32 bytes."""
        return self.bundle.identity_key

    def rotate(self, period: int) -> bool:
        """Another signed prekey where this one is older than `period` seconds; the last one is kept beside it."""
        if self._state.signed_pre_key_age() < period:
            return False
        self._state.rotate_signed_pre_key()
        return True

    def fresh(self) -> bytes:
        """One more one-time prekey."""
        before = self._state.bundle.pre_keys
        self._state.generate_pre_keys(1)
        (made,) = self._state.bundle.pre_keys - before
        return made

    def drop(self, pre_key: bytes) -> None:
        """Forget a one-time prekey."""
        self._state.delete_pre_key(pre_key)

    async def agree(self, bundle: Bundle, names: bytes) -> tuple[bytes, bytes, Agreement]:
        """Shared secret, associated data and what the other side needs for both. Raises Unreadable."""
        try:
            return await self._state.get_shared_secret_active(bundle, names, require_pre_key=False)
        except _NO_AGREEMENT:
            raise Unreadable from None

    async def agree_with(self, agreement: Agreement, names: bytes) -> tuple[bytes, bytes, bytes]:
        """Shared secret, associated data and the signed prekey's secret; the one-time prekey stays.

        Raises Unreadable.
        """
        try:
            shared, data, pair = await self._state.get_shared_secret_passive(agreement, names, require_pre_key=False)
        except _NO_AGREEMENT:
            raise Unreadable from None
        return shared, data, pair.priv

    def save(self) -> str:
        """All keys as JSON."""
        return json.dumps(self._state.json)

    @classmethod
    def load(cls, saved: str) -> Device:
        """The other way."""
        state, _ = _State.from_json(json.loads(saved), **_AGREEMENT)
        return cls(state)
