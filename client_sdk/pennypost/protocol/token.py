"""Tokens: proofs as one person hands them to another (NUT-00, Serialization of tokens).

    "cashuB…" ── base64url ──▶ CBOR ──┐
    "cashuA…" ── base64url ──▶ JSON ──┴─▶ Token(mint, unit, proofs, memo)
    Token ── encode_token ──▶ "cashuB…" or "cashuA…"
    proof.secret ── spending_condition ──▶ None, or the Condition that locks it (NUT-10)

A stamp must not carry the blinding factor of its DLEQ proof, for with it the mint links sale and use: the `dleq` of a
proof is neither read nor written unless asked for.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from binascii import a2b_base64
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, cast
from urllib.parse import urlsplit

import cbor2
import msgspec

from pennypost.protocol.condition import Condition, spending_condition
from pennypost.protocol.errors import StampMalformed
from pennypost.protocol.keyset import resolve_id, short_id
from pennypost.protocol.proof import (
    MAX_MEMO,
    MAX_MINT,
    MAX_PROOFS,
    MAX_SECRET,
    MAX_TOKEN,
    MAX_UNIT,
    MAX_WITNESS,
    Dleq,
    Proof,
    Token,
    checked_dleq,
    checked_proof,
    checked_token,
    malformed,
    resolved,
    utf8_length,
)
from pennypost.protocol.token_cbor import Reader

__all__ = [
    "Condition",
    "Dleq",
    "Proof",
    "Token",
    "encode_token",
    "normal_mint",
    "parse_token",
    "resolve_token",
    "spending_condition",
]

_URLSAFE: Final = bytes.maketrans(b"-_", b"+/")
_POINT: Final = re.compile(r"0[23][0-9a-f]{64}")
SHORT: Final = 16
"""Digits of a short keyset id, and of a whole one of version 00 (NUT-02)."""


def parse_token(
    text: object,
    known_ids: Iterable[str] | None = None,
    *,
    keep_dleq: bool = False,
    max_proofs: int = MAX_PROOFS,
) -> Token:
    """Read a cashuA or cashuB token, with or without the prefix `cashu:` (NUT-00, V3 tokens and V4 tokens).

    Keyset ids are resolved against `known_ids` (full ids); with None they stay as written, short or full, for a caller
    who must first look at the mint: `resolve_token` does it later. Amounts are powers of two. `max_proofs` bounds the
    proofs; their `dleq` is dropped unread unless `keep_dleq`.

    Raises StampMalformed, and StampUnknownKeyset for an id that is unknown or ambiguous.
    """
    if not isinstance(text, str) or len(text) > MAX_TOKEN:
        raise StampMalformed
    text = text.removeprefix("cashu:")
    known = known_ids if known_ids is None or isinstance(known_ids, (list, tuple)) else tuple(known_ids)
    if text.startswith("cashuB"):
        return Reader(_decode_base64(text), known, keep_dleq, max_proofs).read()
    if text.startswith("cashuA"):
        return _json_token(_decode_base64(text), known, keep_dleq, max_proofs)
    raise StampMalformed("it begins neither with cashuA nor with cashuB")


def resolve_token(token: Token, known_ids: Iterable[str]) -> Token:
    """The token with the full keyset id in each proof. Raises StampUnknownKeyset."""
    known = tuple(known_ids)
    full = {written: resolve_id(written, known) for written in {proof.id for proof in token.proofs}}
    if all(written == found for written, found in full.items()):
        return token
    proofs = [msgspec.structs.replace(proof, id=full[proof.id]) for proof in token.proofs]
    return msgspec.structs.replace(token, proofs=proofs)


def encode_token(
    token: Token, version: Literal["A", "B"] = "B", *, short_ids: bool = True, keep_dleq: bool = False
) -> str:
    """Serialise a token, without padding; a cashuB token carries short keyset ids unless told otherwise.

    A cashuA token (version "A") names its keysets in full, for readers that know no other: raises StampMalformed for
    proofs whose keyset is known by its short id alone (NUT-00, V3 tokens). The proofs' DLEQ is left out unless
    `keep_dleq`: its `r` would show the mint which sale the proofs came from.
    """
    if version == "A":
        if any(len(proof.id) == SHORT and not proof.id.startswith("00") for proof in token.proofs):
            malformed("a cashuA token names its keysets in full")
        body = msgspec.json.encode(_json_form(token, keep_dleq))
    else:
        body = cbor2.dumps(_cbor_form(token, short_ids, keep_dleq))
    return f"cashu{version}" + urlsafe_b64encode(body).decode().rstrip("=")


def _json_form(token: Token, keep_dleq: bool) -> dict[str, Any]:
    proofs = [proof if keep_dleq else msgspec.structs.replace(proof, dleq=None) for proof in token.proofs]
    form: dict[str, Any] = {"token": [{"mint": token.mint, "proofs": proofs}], "unit": token.unit}
    return form if token.memo is None else form | {"memo": token.memo}


def _cbor_form(token: Token, short_ids: bool, keep_dleq: bool) -> dict[str, Any]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for proof in token.proofs:
        entry: dict[str, Any] = {"a": proof.amount, "s": proof.secret, "c": bytes.fromhex(proof.C)}
        if keep_dleq and proof.dleq is not None:
            scalars = {"e": proof.dleq.e, "s": proof.dleq.s, "r": proof.dleq.r}
            entry["d"] = {name: bytes.fromhex(value) for name, value in scalars.items() if value is not None}
        if proof.witness is not None:
            entry["w"] = proof.witness
        groups.setdefault(short_id(proof.id) if short_ids else proof.id, []).append(entry)
    form: dict[str, Any] = {"t": [{"i": bytes.fromhex(id), "p": proofs} for id, proofs in groups.items()]}
    if token.memo is not None:
        form["d"] = token.memo
    return form | {"m": token.mint, "u": token.unit}


def _decode_base64(text: str) -> bytes:
    try:
        digits = text.encode("ascii")[6:].translate(_URLSAFE).rstrip(b"=")
        return a2b_base64(digits + b"==="[: -len(digits) % 4], strict_mode=True)
    except ValueError:
        raise StampMalformed("not base64url") from None


def _json_token(data: bytes, known_ids: Sequence[str] | None, keep_dleq: bool, max_proofs: int) -> Token:
    """Reads one cashuA token; unknown fields are ignored, several entries must name the same mint."""
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        malformed("not JSON")
    body = _object(body)
    listed = _array(body.get("token"))
    if len(listed) > max_proofs:
        malformed("too many proofs")
    entries = [_object(entry) for entry in listed]
    raw = [_object(proof) for entry in entries for proof in _array(entry.get("proofs"))]
    mints = {_string(entry.get("mint"), MAX_MINT) for entry in entries}
    if len(mints) != 1:
        malformed("a token is of one mint")
    if len(raw) > max_proofs:
        malformed("too many proofs")
    # A token of this older form may leave its unit out, and then means sat.
    unit = "sat" if body.get("unit") is None else _string(body["unit"], MAX_UNIT)
    memo = _optional(body.get("memo"), MAX_MEMO)
    return checked_token(mints.pop(), unit, [_json_proof(proof, known_ids, keep_dleq) for proof in raw], memo)


def _json_proof(proof: dict[str, object], known_ids: Sequence[str] | None, keep_dleq: bool) -> Proof:
    amount, signature, dleq = proof.get("amount"), proof.get("C"), None
    if keep_dleq and proof.get("dleq") is not None:
        found = _object(proof["dleq"])
        dleq = checked_dleq({name: found[name] for name in ("e", "s", "r") if found.get(name) is not None})
    keyset = resolved(_string(proof.get("id"), 66), known_ids)
    worth, secret, C, witness, dleq = checked_proof(
        amount if type(amount) is int else None,
        _string(proof.get("secret"), MAX_SECRET),
        signature if isinstance(signature, str) and _POINT.fullmatch(signature) else None,
        _optional(proof.get("witness"), MAX_WITNESS),
        dleq,
    )
    return Proof(worth, keyset, secret, C, witness, dleq)


def _object(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else malformed("an object is missing")


def _array(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else malformed("a list is missing")


def _string(value: object, limit: int) -> str:
    if not isinstance(value, str) or len(value) > limit or utf8_length(value) > limit:
        malformed("a field is missing, too long or no text")
    return value


def _optional(value: object, limit: int) -> str | None:
    return None if value is None else _string(value, limit)


def normal_mint(address: str) -> str:
    """A mint's address in the one form in which two can be compared: lower-case scheme and host, no default port, no
    slash at the end (NUT-00, V4 tokens). It is compared, never dialled.

    Raises StampMalformed for anything but http or https, and for addresses with a user, a query or a fragment.
    """
    if not address.isascii() or not address.isprintable() or set(address) & set(" \\?#@") or len(address) > MAX_MINT:
        malformed("the mint's address cannot be read")
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        malformed("the mint's address cannot be read")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        malformed("the mint's address cannot be read")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname.rstrip(".")
    default = {"http": 80, "https": 443}[parts.scheme]
    suffix = "" if port is None or port == default else f":{port}"
    return f"{parts.scheme}://{host}{suffix}{parts.path.rstrip('/')}"
