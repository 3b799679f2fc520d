"""X3DH (section 3) and the Double Ratchet (sections 2 and 3) against the specifications, written out here.

Of packages `cryptography` alone is used for it.

No other program speaks our form of it, so this second implementation, which shares no code with the first, stands in.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

pytest.importorskip("doubleratchet", reason="the extra [sessions] is not installed")

from pennypost.sessions.ratchet import Device, Ratchet, Sealed

DATA = b"both identity keys"


def kdf_rk(root: bytes, dh: bytes) -> tuple[bytes, bytes]:
    """KDF_RK: HKDF with the root key as salt, the DH output as input key material."""
    out = HKDF(SHA256(), 64, salt=root, info=b"pennypost/session-root/v1").derive(dh)
    return out[:32], out[32:]


def kdf_ck(chain: bytes) -> tuple[bytes, bytes]:
    """KDF_CK: HMAC of two constants: the next chain key, the message key."""
    return hmac.digest(chain, b"\x01", "sha256"), hmac.digest(chain, b"\x02", "sha256")


class Plain:
    """RatchetInitAlice, RatchetInitBob, RatchetEncrypt, RatchetDecrypt with skipped keys."""

    def __init__(self, shared: bytes, own: X25519PrivateKey, other: bytes | None) -> None:
        self.own, self.other, self.root = own, other, shared
        self.sending: bytes | None = None
        self.receiving: bytes | None = None
        self.sent = self.received = self.before = 0
        self.skipped: dict[tuple[bytes, int], bytes] = {}
        if other is not None:
            self.root, self.sending = kdf_rk(shared, own.exchange(X25519PublicKey.from_public_bytes(other)))

    def encrypt(self, text: bytes) -> Sealed:
        assert self.sending is not None
        self.sending, key = kdf_ck(self.sending)
        public, number = self.own.public_key().public_bytes_raw(), self.sent
        self.sent += 1
        nonce = os.urandom(12)
        sealed = ChaCha20Poly1305(key).encrypt(nonce, text, self._data(public, self.before, number))
        return Sealed(public, self.before, number, nonce + sealed)

    def decrypt(self, sealed: Sealed) -> bytes:
        key = self.skipped.pop((sealed.ratchet, sealed.number), None)
        if key is None:
            if sealed.ratchet != self.other:
                self._skip(sealed.previous)
                self._turn(sealed.ratchet)
            self._skip(sealed.number)
            assert self.receiving is not None
            self.receiving, key = kdf_ck(self.receiving)
            self.received += 1
        nonce, text = sealed.ciphertext[:12], sealed.ciphertext[12:]
        return ChaCha20Poly1305(key).decrypt(nonce, text, self._data(sealed.ratchet, sealed.previous, sealed.number))

    def _skip(self, until: int) -> None:
        while self.receiving is not None and self.received < until:
            self.receiving, key = kdf_ck(self.receiving)
            assert self.other is not None
            self.skipped[self.other, self.received] = key
            self.received += 1

    def _turn(self, other: bytes) -> None:
        self.before, self.sent, self.received, self.other = self.sent, 0, 0, other
        public = X25519PublicKey.from_public_bytes(other)
        self.root, self.receiving = kdf_rk(self.root, self.own.exchange(public))
        self.own = X25519PrivateKey.generate()
        self.root, self.sending = kdf_rk(self.root, self.own.exchange(public))

    def _data(self, ratchet: bytes, previous: int, number: int) -> bytes:
        return DATA + ratchet + previous.to_bytes(8, "big") + number.to_bytes(8, "big")


async def test_a_conversation_that_we_begin() -> None:
    shared, prekey = os.urandom(32), X25519PrivateKey.generate()
    bob = Plain(shared, prekey, None)
    alice, first = await Ratchet.begin(shared, prekey.public_key().public_bytes_raw(), DATA, b"first")
    assert bob.decrypt(first) == b"first"
    for turn in range(4):
        for number in range(3):
            text = f"{turn} {number}".encode()
            assert await alice.decrypt(bob.encrypt(text)) == text
        alice = Ratchet.load(alice.save(), DATA)
        for number in range(2):
            text = f"back {turn} {number}".encode()
            assert bob.decrypt(await alice.encrypt(text)) == text


async def test_a_conversation_that_they_begin() -> None:
    shared, prekey = os.urandom(32), X25519PrivateKey.generate()
    alice = Plain(shared, X25519PrivateKey.generate(), prekey.public_key().public_bytes_raw())
    bob, text = await Ratchet.answer(shared, prekey.private_bytes_raw(), DATA, alice.encrypt(b"first"))
    assert text == b"first"
    assert alice.decrypt(await bob.encrypt(b"back")) == b"back"
    assert await bob.decrypt(alice.encrypt(b"again")) == b"again"


async def test_any_order_both_ways() -> None:
    shared, prekey = os.urandom(32), X25519PrivateKey.generate()
    theirs = Plain(shared, prekey, None)
    ours, first = await Ratchet.begin(shared, prekey.public_key().public_bytes_raw(), DATA, b"0")
    sent = [first, *[await ours.encrypt(str(n).encode()) for n in range(1, 6)]]
    for number in (3, 0, 5, 1, 4, 2):
        assert theirs.decrypt(sent[number]) == str(number).encode()
    old = [theirs.encrypt(str(n).encode()) for n in range(4)]
    assert await ours.decrypt(old[2]) == b"2"
    assert theirs.decrypt(await ours.encrypt(b"turned")) == b"turned"
    new = [theirs.encrypt(f"new {n}".encode()) for n in range(3)]
    assert await ours.decrypt(new[1]) == b"new 1"
    for message, text in ((old[0], b"0"), (new[0], b"new 0"), (old[3], b"3"), (old[1], b"1"), (new[2], b"new 2")):
        assert await ours.decrypt(message) == text


FIELD = 2**255 - 19


def on_the_ladder(edwards: bytes) -> X25519PublicKey:
    """The X25519 key of an Ed25519 key: u = (1 + y) / (1 - y) (RFC 7748, section 4.1)."""
    y = int.from_bytes(edwards, "little") & (1 << 255) - 1
    return X25519PublicKey.from_public_bytes(((1 + y) * pow(1 - y, -1, FIELD) % FIELD).to_bytes(32, "little"))


@pytest.mark.parametrize("once", [False, True])
async def test_an_agreement(once: bool) -> None:
    """SK = KDF(F ‖ DH1 ‖ DH2 ‖ DH3 ‖ DH4), as the side that is written to has it."""
    ours, theirs = Device.new(), Device.new()
    if once:
        theirs.fresh()
    kept = json.loads(theirs.save())
    identity = X25519PrivateKey.from_private_bytes(
        hashlib.sha512(kept["identity_key"]["secret"].encode("latin-1")).digest()[:32]
    )
    prekey = X25519PrivateKey.from_private_bytes(kept["signed_pre_key"]["priv"].encode("latin-1"))
    shared, data, agreement = await ours.agree(theirs.bundle, b"names")
    ephemeral = X25519PublicKey.from_public_bytes(agreement.ephemeral_key)
    secrets = [
        prekey.exchange(on_the_ladder(agreement.identity_key)),
        identity.exchange(ephemeral),
        prekey.exchange(ephemeral),
    ]
    assert (agreement.pre_key is not None) == once
    if once:
        own = X25519PrivateKey.from_private_bytes(kept["pre_keys"][0].encode("latin-1"))
        assert own.public_key().public_bytes_raw() == agreement.pre_key
        secrets.append(own.exchange(ephemeral))
    material = b"\xff" * 32 + b"".join(secrets)
    assert HKDF(SHA256(), 32, salt=bytes(32), info=b"pennypost/session/v1").derive(material) == shared
    assert agreement.identity_key in data and theirs.name in data and data.endswith(b"names")
    assert agreement.signed_pre_key == prekey.public_key().public_bytes_raw()
