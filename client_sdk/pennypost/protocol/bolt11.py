"""Lightning invoices, read (BOLT 11).

    "lnbc2500u1…" ──bech32──▶ prefix, groups of five bits
    prefix ─▶ network, amount        groups ─▶ time · tagged fields · signature ─▶ payee

Nothing here says that an invoice can be paid: who pays compares amount, hash and time with what he wants.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from typing import Any, Final

from pennypost.protocol import bech32, secp
from pennypost.protocol.errors import InvalidInvoice

MAX_LENGTH: Final = 7_089
"""Characters: what the largest QR code holds."""

DEFAULT_EXPIRY: Final = 3_600
"""Seconds an invoice without an expiry can be paid (BOLT 11, Tagged Fields)."""

_PREFIX: Final = re.compile(r"ln(bc|tb|tbs|bcrt)(?:([1-9][0-9]{0,17})([munp]?))?")
_PICO: Final = {"": 10**12, "m": 10**9, "u": 10**6, "n": 10**3, "p": 1}
"""Pico-bitcoin of each multiplier; a millisatoshi is ten of them."""

_TIME: Final = 7
_SIGNATURE: Final = 104
_KEY, _HASH = 53, 52
_MOST_EXPIRY: Final = 2**40

_HALF_ORDER: Final = secp.ORDER // 2
_PublicKey: Any = import_module("coincurve").PublicKey


@dataclass(frozen=True, slots=True)
class Bolt11:
    """An invoice. `network` is bc, tb, tbs or bcrt; times in Unix seconds; `payee` 33 bytes, secret and hashes 32."""

    network: str
    amount_msat: int | None
    created_at: int
    expires_at: int
    payment_hash: bytes
    payment_secret: bytes
    payee: bytes
    description: str | None
    description_hash: bytes | None
    features: int


def parse_invoice(text: str) -> Bolt11:
    """Read an invoice and check its signature; a leading `lightning:` is passed over.

    Fields of a wrong length are skipped, as BOLT 11's examples have it, and of fields given twice the first counts.
    Raises InvalidInvoice.
    """
    found = bech32.decode(text.strip().removeprefix("lightning:"), MAX_LENGTH)
    if found is None:
        raise InvalidInvoice("a character is wrong or missing")
    prefix, groups = found
    named = _PREFIX.fullmatch(prefix)
    if named is None or len(groups) < _TIME + _SIGNATURE:
        raise InvalidInvoice
    body, signature = groups[:-_SIGNATURE], groups[-_SIGNATURE:]
    fields = _fields(body[_TIME:])
    payment_hash, secret, description = fields.get("p"), fields.get("s"), fields.get("d")
    if payment_hash is None or secret is None:
        raise InvalidInvoice("it is incomplete")
    if (description is None) == ("h" not in fields):
        raise InvalidInvoice("it has no description, or two")
    created_at, expiry = _number(body[:_TIME]), _number(fields.get("x", []))
    if expiry > _MOST_EXPIRY:
        raise InvalidInvoice
    return Bolt11(
        network=named[1],
        amount_msat=_msat(named[2], named[3]),
        created_at=created_at,
        expires_at=created_at + (expiry if "x" in fields else DEFAULT_EXPIRY),
        payment_hash=_bytes(payment_hash),
        payment_secret=_bytes(secret),
        payee=_payee(prefix, body, signature, fields.get("n")),
        description=None if description is None else _text(description),
        description_hash=_bytes(fields["h"]) if "h" in fields else None,
        features=_number(fields.get("9", [])),
    )


def _msat(digits: str | None, multiplier: str | None) -> int | None:
    if digits is None:
        return None
    msat, part = divmod(int(digits) * _PICO[multiplier or ""], 10)
    if part:
        raise InvalidInvoice("its amount is no whole number of millisatoshis")
    return msat


def _fields(groups: list[int]) -> dict[str, list[int]]:
    """The first field of each kind whose length is right, without its length."""
    lengths = {"p": _HASH, "s": _HASH, "h": _HASH, "n": _KEY}
    fields: dict[str, list[int]] = {}
    position = 0
    while position < len(groups):
        header = groups[position : position + 3]
        end = position + 3 + (header[1] << 5 | header[2] if len(header) == 3 else 0)
        if len(header) < 3 or end > len(groups):
            raise InvalidInvoice("it is cut off")
        kind, data = bech32.ALPHABET[header[0]], groups[position + 3 : end]
        if len(data) == lengths.get(kind, len(data)):
            fields.setdefault(kind, data)
        position = end
    return fields


def _number(groups: list[int]) -> int:
    value = 0
    for group in groups:
        value = value << 5 | group
    return value


def _bytes(groups: list[int]) -> bytes:
    """Whole bytes; the bits that only fill up are dropped."""
    return bytes(bech32.regroup(groups, 5, 8)[: len(groups) * 5 // 8])


def _text(groups: list[int]) -> str:
    try:
        return _bytes(groups).decode()
    except UnicodeDecodeError:
        raise InvalidInvoice("its description is no text") from None


def _payee(prefix: str, body: list[int], signature: list[int], named: list[int] | None) -> bytes:
    """The payee's key, recovered from the signature, and where the invoice names one, that it is the same.

    A signature that recovers to the key named is one of that key; only one with a high S is not to be taken then.
    """
    compact = _bytes(signature)
    digest = sha256(prefix.encode() + bytes(bech32.regroup(body, 5, 8))).digest()
    try:
        payee: bytes = _PublicKey.from_signature_and_message(compact, digest, hasher=None).format()
    except ValueError:
        raise InvalidInvoice("its signature is wrong") from None
    if named is not None and (_bytes(named) != payee or int.from_bytes(compact[32:64]) > _HALF_ORDER):
        raise InvalidInvoice("its signature is wrong")
    return payee
