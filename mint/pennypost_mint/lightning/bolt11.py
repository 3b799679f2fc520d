"""Invoices of the play-money node, in sat."""

from __future__ import annotations

from pennypost.protocol.bolt11_writer import MAX_MEMO, NETWORK, write_invoice

__all__ = ["MAX_MEMO", "encode_invoice"]


def encode_invoice(
    key: bytes,
    amount: int,
    payment_hash: bytes,
    payment_secret: bytes,
    memo: str,
    created_at: int,
    expiry_seconds: int,
    network: str = NETWORK,
) -> str:
    """A signed invoice over `amount` sat (BOLT 11); `key` is the payee's 32-byte secret, the hashes 32 bytes each."""
    msat = amount * 1_000
    return write_invoice(key, msat, payment_hash, payment_secret, memo, created_at, expiry_seconds, network)
