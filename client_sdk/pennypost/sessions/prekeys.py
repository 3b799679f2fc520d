"""What others need to begin a session with a device: signed by the npub, as an event or as one word.

event   kind 30511, `d`: the device, content: the word without one-time prekeys     anyone may read it
word    `pps1…`, with one one-time prekey                                           by QR, by hand, or sealed
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from typing import Annotated, Final

import msgspec

from pennypost.protocol import secp
from pennypost.protocol.errors import InvalidInput
from pennypost.protocol.event import MAX_INTEGER
from pennypost.sessions.ratchet import Bundle

PREFIX: Final = "pps1"
MAX_WORD: Final = 2_048

_Hex64 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z", max_length=64)]
_Hex128 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{128}\Z", max_length=128)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]


class Prekeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A device's keys. `owner` is its person's public key, `made_at` in Unix seconds, `signature` by the npub."""

    owner: _Hex64
    device: _Hex64
    signed: _Hex64
    proof: _Hex128
    made_at: _Time
    signature: _Hex128
    once: _Hex64 | None = None

    def bundle(self) -> Bundle:
        """As the library takes it."""
        once = frozenset(() if self.once is None else (bytes.fromhex(self.once),))
        return Bundle(bytes.fromhex(self.device), bytes.fromhex(self.signed), bytes.fromhex(self.proof), once)


_decoder: Final = msgspec.json.Decoder(Prekeys)


def sign_prekeys(bundle: Bundle, once: bytes | None, secret: bytes, made_at: int, aux: bytes) -> Prekeys:
    """The prekeys of a bundle, with one one-time prekey or none; `secret` is that of the npub, `aux` 32 fresh bytes."""
    owner = secp.xonly(secret).hex()
    fields = (owner, bundle.identity_key.hex(), bundle.signed_pre_key.hex(), bundle.signed_pre_key_sig.hex(), made_at)
    prekeys = Prekeys(*fields, "", None if once is None else once.hex())
    return msgspec.structs.replace(prekeys, signature=secp.schnorr_sign(secret, _digest(prekeys), aux).hex())


def encode_prekeys(prekeys: Prekeys) -> str:
    """`pps1…`."""
    return PREFIX + urlsafe_b64encode(msgspec.json.encode(prekeys)).rstrip(b"=").decode()


def parse_prekeys(text: str) -> Prekeys:
    """Prekeys that their owner has signed. Raises InvalidInput."""
    text = text.strip()
    if not text.startswith(PREFIX) or len(text) > MAX_WORD or not text.isascii():
        raise InvalidInput("these are no session keys")
    encoded = text.removeprefix(PREFIX)
    try:
        prekeys = _decoder.decode(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except (msgspec.DecodeError, Base64Error, ValueError, RecursionError):
        raise InvalidInput("these session keys are damaged") from None
    signature = bytes.fromhex(prekeys.signature)
    if not secp.schnorr_verify(bytes.fromhex(prekeys.owner), _digest(prekeys), signature):
        raise InvalidInput("these session keys are not signed by whom they name")
    return prekeys


def _digest(prekeys: Prekeys) -> bytes:
    return secp.tagged_hash("prekeys", msgspec.json.encode(msgspec.structs.replace(prekeys, signature="")))
