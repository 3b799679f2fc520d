"""A text for sale: the payment releases its key (wire contract, section 4, Reader pays).

    K: 32 random bytes     H = SHA256(K): the invoice's payment hash, so whoever pays learns K
    e, E: a fresh key      Z = H("paid", x(e · B) ‖ E ‖ H): what only seller and buyer know
    key = HKDF(K, salt = Z, "paid")           K alone is not the key: every hop of the route learns it
    ct  = ChaCha20-Poly1305(key, nonce 0, blind(32) ‖ text, aad = H)

    seller   seal_text ─▶ ct, and with an invoice over H make_offer ─▶ "ppo1…", signed
    buyer    parse_offer ─▶ check_offer: everything that can be verified, in one function ─▶ pay ─▶ K ─▶ open_text
                                                                                       └─▶ GarbageProof ─▶ judge

The offer commits to SHA256(ct), SHA256(blind ‖ text) and H("zc", Z). So when ct does not open with K, or opens to
another text, offer, Z, K and ct prove it to anyone, and open nothing else. All randomness is passed in.
"""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field, replace
from hashlib import sha256
from hmac import compare_digest, digest
from struct import Struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from pennypost.protocol import secp
from pennypost.protocol.bolt11 import Bolt11, parse_invoice
from pennypost.protocol.errors import (
    AmountTooHigh,
    GarbageProof,
    InvalidInvoice,
    InvalidKey,
    InvalidOffer,
    InvoiceMismatch,
    LetterTooLarge,
    OfferExpired,
)

KIND_OFFER: Final = 4410
"""Kind of the rumor that carries an offer; it travels inside seals alone."""
KIND_CIPHERTEXT: Final = 4411
"""Kind of the rumor that carries ct, or with `trust_office` K, as base64url."""
KIND_ECASH: Final = 4414
"""Kind of the rumor that carries ecash locked to an offer's hash (NUT-14), as JSON: {"offer", "token"}."""
ECASH: Final = "ecash:"
"""What stands for the invoice of an offer that is paid with ecash: ecash:<66 hex digits>@<mint>."""

MAX_TEXT: Final = 11_000
"""Bytes of a text: with its base64 it fits into the largest letter."""
MAX_DESCRIPTION: Final = 500
"""Bytes of a description."""
MARGIN: Final = 60
"""Seconds that an offer must still be good for when it is paid."""
PREFIX: Final = "ppo1"
EVIDENCE: Final = "ppg1"

_LOCK_KEY: Final = re.compile(r"0[23][0-9a-f]{64}")
_VERSION: Final = 1
_TRUST: Final = 1
_BLIND: Final = 32
_OVERHEAD: Final = _BLIND + 16
_NONCE: Final = bytes(12)
_HEAD: Final = Struct(">BB32s32s32s32s32s32s32s32sQQ")
_LENGTH: Final = Struct(">H")
_SIGNATURE: Final = 64
_MAX_INVOICE: Final = 2_000
_MAX_BODY: Final = _HEAD.size + MAX_DESCRIPTION + _MAX_INVOICE + 2 * _LENGTH.size
_MAX_TEXT_FORM: Final = 4 * (_MAX_BODY + _SIGNATURE) // 3 + 8
_MAX_MSAT: Final = 2_100_000_000_000_000_000
_MAX_TIME: Final = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Offer:
    """A signed offer. Keys and hashes have 32 bytes; the price is in msat, `expires_at` in Unix seconds.

    `letter` is the author of the letter with ct. With `drop` (32 zero bytes without) the office is trusted to give the
    letter by that author to whoever shows the invoice's preimage, and K is in it.
    """

    seller: bytes
    ephemeral: bytes
    key_hash: bytes
    ciphertext_hash: bytes
    text_hash: bytes
    commitment: bytes
    letter: bytes
    drop: bytes
    msat: int
    expires_at: int
    description: str
    invoice: str
    signature: bytes

    @property
    def id(self) -> bytes:
        """What the seller signs, and the office's hold names: 32 bytes."""
        return secp.tagged_hash("offer", _body(self))

    @property
    def trusts_office(self) -> bool:
        """Whether the key comes from the office, which could keep it back, and not from the payment."""
        return any(self.drop)


@dataclass(frozen=True, slots=True)
class EcashAsk:
    """What an offer asks instead of a Lightning payment: ecash of this mint, locked to H and this key (66 digits)."""

    lock_key: str
    mint: str


@dataclass(frozen=True, slots=True)
class SealedText:
    """A text sealed under K: what goes into the offer, and ct."""

    ephemeral: bytes
    key_hash: bytes
    text_hash: bytes
    commitment: bytes
    ciphertext: bytes = field(repr=False)


def seal_text(text: str, key: bytes, ephemeral_secret: bytes, buyer: bytes, blind: bytes) -> SealedText:
    """Seal a text for one buyer (32-byte public key). K, e and blind are 32 fresh random bytes each, used this once.

    Raises LetterTooLarge over MAX_TEXT bytes, InvalidKey, InvalidOffer for an empty text or one that is not UTF-8.
    """
    if not len(key) == len(blind) == 32:
        raise ValueError("key and blind have 32 bytes each")
    try:
        plain = text.encode()
    except UnicodeEncodeError:
        raise InvalidOffer("its text is not UTF-8") from None
    if not plain:
        raise InvalidOffer("there is no text in it")
    if len(plain) > MAX_TEXT:
        raise LetterTooLarge
    ephemeral, key_hash = secp.xonly(ephemeral_secret), sha256(key).digest()
    shared = _shared(secp.ecdh_x(ephemeral_secret, buyer), ephemeral, key_hash)
    ciphertext = ChaCha20Poly1305(_content_key(key, shared)).encrypt(_NONCE, blind + plain, key_hash)
    text_hash = sha256(blind + plain).digest()
    return SealedText(ephemeral, key_hash, text_hash, _commit(shared), ciphertext)


def make_offer(
    sealed: SealedText,
    seller_secret: bytes,
    *,
    letter: bytes,
    msat: int,
    expires_at: int,
    description: str,
    invoice: str,
    drop: bytes = bytes(32),
    aux: bytes,
) -> Offer:
    """The signed offer of a sealed text; `aux` is 32 fresh random bytes. Raises InvalidOffer where it is too long."""
    invoice = invoice.strip().removeprefix("lightning:")
    invoice = invoice if invoice.startswith(ECASH) else invoice.lower()
    if not 0 < msat <= _MAX_MSAT or not 0 < expires_at <= _MAX_TIME:
        raise InvalidOffer("a price is above 0, and an offer ends")
    try:
        size = len(description.encode())
    except UnicodeEncodeError:
        raise InvalidOffer("its description is not UTF-8") from None
    if size > MAX_DESCRIPTION or len(invoice) > _MAX_INVOICE or not invoice.isascii():
        raise InvalidOffer("its description has 500 bytes at most")
    unsigned = Offer(
        secp.xonly(seller_secret),
        sealed.ephemeral,
        sealed.key_hash,
        sha256(sealed.ciphertext).digest(),
        sealed.text_hash,
        sealed.commitment,
        letter,
        drop,
        msat,
        expires_at,
        description,
        invoice,
        b"",
    )
    return replace(unsigned, signature=secp.schnorr_sign(seller_secret, unsigned.id, aux))


def encode_offer(offer: Offer) -> str:
    """The text `ppo1…` of an offer."""
    return PREFIX + _base64(_body(offer) + offer.signature)


def parse_offer(text: str) -> Offer:
    """Read an offer and check the seller's signature. Raises InvalidOffer, whatever is sent."""
    text = text.strip()
    if not text.startswith(PREFIX) or len(text) > _MAX_TEXT_FORM + len(PREFIX):
        raise InvalidOffer("it does not begin with ppo1, or is too long")
    return _read(_bytes(text[len(PREFIX) :]))


def _read(data: bytes) -> Offer:
    body, signature = data[:-_SIGNATURE], data[-_SIGNATURE:]
    if not _HEAD.size + 2 * _LENGTH.size <= len(body) <= _MAX_BODY:
        raise InvalidOffer
    version, flags, seller, ephemeral, key_hash, ct_hash, text_hash, commitment, letter, drop, msat, expires_at = (
        _HEAD.unpack_from(body)
    )
    if version != _VERSION:
        raise InvalidOffer("a newer version made it")
    description, position = _take(body, _HEAD.size, MAX_DESCRIPTION)
    invoice, position = _take(body, position, _MAX_INVOICE)
    if position != len(body):
        raise InvalidOffer
    try:
        offer = Offer(
            seller,
            ephemeral,
            key_hash,
            ct_hash,
            text_hash,
            commitment,
            letter,
            drop,
            msat,
            expires_at,
            description.decode(),
            invoice.decode("ascii"),
            signature,
        )
    except UnicodeDecodeError:
        raise InvalidOffer("its description is not UTF-8") from None
    if flags != (_TRUST if offer.trusts_office else 0) or not 0 < msat <= _MAX_MSAT or not 0 < expires_at <= _MAX_TIME:
        raise InvalidOffer
    if not secp.schnorr_verify(offer.seller, offer.id, signature):
        raise InvalidOffer("its signature is wrong")
    return offer


def _take(body: bytes, position: int, most: int) -> tuple[bytes, int]:
    if position + _LENGTH.size > len(body):
        raise InvalidOffer
    (length,) = _LENGTH.unpack_from(body, position)
    start = position + _LENGTH.size
    if length > most or start + length > len(body):
        raise InvalidOffer
    return body[start : start + length], start + length


def check_offer(
    offer: Offer,
    ciphertext: bytes,
    buyer_secret: bytes,
    *,
    seller: bytes,
    most_msat: int,
    now: int,
    trust_office: bool = False,
    network: str | None = None,
) -> tuple[Bolt11 | EcashAsk, bytes]:
    """Everything that can be verified before paying, in this order; nothing may be paid when it raises.

    `seller` (32 bytes) is who sealed the letters that offer and ciphertext came in; `now` is Unix seconds; `network`,
    when known, is that of the payer's wallet (bc, tb, bcrt …). Returns what is to be paid, the invoice or what ecash
    to lock to the offer's own hash, and Z.

    Raises InvalidOffer, InvoiceMismatch, AmountTooHigh, OfferExpired.
    """
    # 1. The ciphertext is here, and is the one that the offer commits to.
    if not _OVERHEAD < len(ciphertext) <= MAX_TEXT + _OVERHEAD:
        raise InvalidOffer("its ciphertext is too short or too long")
    if not compare_digest(sha256(ciphertext).digest(), offer.ciphertext_hash):
        raise InvalidOffer("its ciphertext is not the one it names")
    # 2. The seller signed the offer, and is the one it came from.
    if offer.seller != seller:
        raise InvalidOffer("it is signed by another than who sent it")
    if not secp.schnorr_verify(offer.seller, offer.id, offer.signature):
        raise InvalidOffer("its signature is wrong")
    # 3. It was made for us: our Z is the one committed to.
    try:
        shared = _shared(secp.ecdh_x(buyer_secret, offer.ephemeral), offer.ephemeral, offer.key_hash)
    except InvalidKey:
        raise InvalidOffer("its key is none") from None
    if not compare_digest(_commit(shared), offer.commitment):
        raise InvalidOffer("it was made for another buyer, or wrongly")
    # 4. The payment releases K and nothing else: unless the office is to be trusted with that, and is.
    asked = payment_of(offer)
    if offer.trusts_office and not trust_office:
        raise InvalidOffer("it makes you trust the office to hand out the key")
    pays_for_key = not isinstance(asked, Bolt11) or compare_digest(asked.payment_hash, offer.key_hash)
    if not offer.trusts_office and not pays_for_key:
        raise InvoiceMismatch("paying it would not release the key")
    # 5. It costs what the offer says, and no more than we allow.
    if isinstance(asked, Bolt11) and asked.amount_msat != offer.msat:
        raise InvoiceMismatch("its amount is not the price")
    if offer.msat > most_msat:
        raise AmountTooHigh(f"the price is {-(-offer.msat // 1_000)} sat")
    if isinstance(asked, Bolt11) and network is not None and asked.network != network:
        raise InvoiceMismatch("it is of another network than your wallet")
    # 6. There is time.
    if min(offer.expires_at, asked.expires_at if isinstance(asked, Bolt11) else _MAX_TIME) < now + MARGIN:
        raise OfferExpired
    return asked, shared


def payment_of(offer: Offer) -> Bolt11 | EcashAsk:
    """What an offer is paid with: its invoice, read, or the ecash asked for. Raises InvoiceMismatch, InvalidOffer."""
    if offer.invoice.startswith(ECASH):
        lock_key, _, mint = offer.invoice.removeprefix(ECASH).partition("@")
        if not _LOCK_KEY.fullmatch(lock_key) or not secp.is_point(bytes.fromhex(lock_key)) or not mint:
            raise InvoiceMismatch("it does not say what ecash it asks for")
        if offer.msat % 1_000 or offer.trusts_office:
            raise InvalidOffer("ecash comes in whole sat, and releases the key by itself")
        return EcashAsk(lock_key, mint)
    try:
        return parse_invoice(offer.invoice)
    except InvalidInvoice as error:
        raise InvoiceMismatch(error.detail) from None


def open_text(offer: Offer, ciphertext: bytes, shared: bytes, key: bytes) -> str:
    """The text that was paid for: `shared` is Z of `check_offer`, `key` is K, of which the offer has the hash.

    Raises GarbageProof with its evidence where the seller had signed something else, InvalidOffer for another K.
    """
    if not compare_digest(sha256(key).digest(), offer.key_hash):
        raise InvalidOffer("this is not its key")
    plain = _decrypt(offer, ciphertext, shared, key)
    if plain is not None:
        try:
            return plain[_BLIND:].decode()
        except UnicodeDecodeError:
            plain = None
    raise GarbageProof(evidence=_evidence(offer, ciphertext, shared, key))


def _decrypt(offer: Offer, ciphertext: bytes, shared: bytes, key: bytes) -> bytes | None:
    """blind ‖ text; None where it does not open, or opens to something that the offer does not commit to."""
    try:
        plain = ChaCha20Poly1305(_content_key(key, shared)).decrypt(_NONCE, ciphertext, offer.key_hash)
    except InvalidTag:
        return None
    return plain if compare_digest(sha256(plain).digest(), offer.text_hash) else None


def _evidence(offer: Offer, ciphertext: bytes, shared: bytes, key: bytes) -> str:
    signed = _body(offer) + offer.signature
    return EVIDENCE + _base64(_LENGTH.pack(len(signed)) + signed + shared + key + ciphertext)


def judge(evidence: str) -> Offer:
    """The offer that this evidence (ppg1…) proves to be garbage, by its seller's own signature.

    It says nothing of whether it was paid, beyond that K is out: the payment, or the seller, gave it away. Raises
    InvalidOffer where it proves nothing, so also for an offer that holds what it promised.
    """
    text = evidence.strip()
    longest = _MAX_BODY + _SIGNATURE + 64 + MAX_TEXT + _OVERHEAD + _LENGTH.size
    if not text.startswith(EVIDENCE) or len(text) > len(EVIDENCE) + 4 * longest // 3 + 8:
        raise InvalidOffer("it is no evidence (ppg1…)")
    data = _bytes(text[len(EVIDENCE) :])
    if len(data) < _LENGTH.size:
        raise InvalidOffer
    signed, position = _take(data, 0, _MAX_BODY + _SIGNATURE)
    offer = _read(signed)
    shared, key, ciphertext = data[position : position + 32], data[position + 32 : position + 64], data[position + 64 :]
    if len(key) != 32 or not compare_digest(sha256(key).digest(), offer.key_hash):
        raise InvalidOffer("its key is not that of the offer")
    if not compare_digest(_commit(shared), offer.commitment):
        raise InvalidOffer("its Z is not the one that the seller signed")
    if not compare_digest(sha256(ciphertext).digest(), offer.ciphertext_hash):
        raise InvalidOffer("its ciphertext is not the one that the seller signed")
    plain = _decrypt(offer, ciphertext, shared, key)
    if plain is not None and _is_text(plain[_BLIND:]):
        raise InvalidOffer("the offer holds what it promised")
    return offer


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _shared(x: bytes, ephemeral: bytes, key_hash: bytes) -> bytes:
    return secp.tagged_hash("paid", x, ephemeral, key_hash)


def _commit(shared: bytes) -> bytes:
    return secp.tagged_hash("zc", shared)


def _content_key(key: bytes, shared: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869) of K with salt Z and info "paid": 32 bytes."""
    return digest(digest(shared, key, sha256), b"paid\x01", sha256)


def _body(offer: Offer) -> bytes:
    description, invoice = offer.description.encode(), offer.invoice.encode()
    head = _HEAD.pack(
        _VERSION,
        _TRUST if offer.trusts_office else 0,
        offer.seller,
        offer.ephemeral,
        offer.key_hash,
        offer.ciphertext_hash,
        offer.text_hash,
        offer.commitment,
        offer.letter,
        offer.drop,
        offer.msat,
        offer.expires_at,
    )
    return b"".join((head, _LENGTH.pack(len(description)), description, _LENGTH.pack(len(invoice)), invoice))


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    """Canonical base64url without padding, or InvalidOffer."""
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise InvalidOffer("it is damaged") from None
    if _base64(data) != text:
        raise InvalidOffer("it is damaged")
    return data
