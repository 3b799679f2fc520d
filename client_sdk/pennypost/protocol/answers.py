"""What a mint answers (NUT-00 to 09, 12, 20, 23): the mint encodes these, a wallet reads them from any mint.

    mint:    SignaturesAnswer(…) ── encode ──▶ JSON
    wallet:  JSON ── read_answer ──▶ SignaturesAnswer, or OfficeMisbehaves
             KeysetKeys ── keys_of ──▶ {amount: K}, once its id is the one that follows from them

Field names are those of the wire. Points are 66, scalars 64 lower-case hex digits; amounts are in the keyset's unit,
times in Unix seconds. Unknown fields are ignored.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from pennypost.protocol import secp
from pennypost.protocol.errors import OfficeMisbehaves
from pennypost.protocol.keyset import keyset_id_v1, keyset_id_v2

MAX_ITEMS: Final = 1_000
"""Most inputs, outputs or Ys of one request."""
MAX_KEYS: Final = 256
"""Most keys of a keyset, and keysets of a mint, that a wallet reads."""

# $ alone would let a line feed through, and \Z is not known to JSON Schema.
HexPoint = Annotated[str, Meta(pattern=r"^0[23][0-9a-f]{64}$(?!\n)")]
HexKeyset = Annotated[str, Meta(pattern=r"^(00[0-9a-f]{14}|01[0-9a-f]{64})$(?!\n)")]
HexScalar = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
Amount = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Time = Annotated[int, Meta(ge=0, le=(1 << 53))]
ShortText = Annotated[str, Meta(max_length=1_024)]
LongText = Annotated[str, Meta(max_length=65_536)]
QuoteState = Literal["UNPAID", "PAID", "ISSUED", "PENDING"]

AMOUNT: Final = re.compile(r"[1-9][0-9]{0,18}")


class BlindedMessage(msgspec.Struct, frozen=True):
    """An output (NUT-00): `amount`, keyset `id`, blinded message `B_`."""

    amount: Amount
    id: HexKeyset
    B_: HexPoint


class SignatureDleq(msgspec.Struct, frozen=True):
    """The proof beside a blind signature (NUT-12)."""

    e: HexScalar
    s: HexScalar


class BlindSignature(msgspec.Struct, frozen=True, omit_defaults=True):
    """A promise (NUT-00): `amount`, keyset `id`, `C_`, and its DLEQ proof (NUT-12)."""

    amount: Amount
    id: HexKeyset
    C_: HexPoint
    dleq: SignatureDleq | None = None


class SignaturesAnswer(msgspec.Struct, frozen=True):
    """Answer to a swap (NUT-03) and to minting (NUT-04): one signature for each output, in order."""

    signatures: Annotated[list[BlindSignature], Meta(max_length=MAX_ITEMS)]


class RestoreAnswer(msgspec.Struct, frozen=True):
    """Answer to a restore (NUT-09): the outputs ever signed, and for each its signature."""

    outputs: Annotated[list[BlindedMessage], Meta(max_length=MAX_ITEMS)]
    signatures: Annotated[list[BlindSignature], Meta(max_length=MAX_ITEMS)]


class ProofState(msgspec.Struct, frozen=True):
    """The state of the proof with this `Y` (NUT-07)."""

    Y: Annotated[str, Meta(pattern=r"^0[23][0-9a-fA-F]{64}$(?!\n)")]
    state: Literal["UNSPENT", "PENDING", "SPENT"]
    witness: LongText | None = None


class CheckStateAnswer(msgspec.Struct, frozen=True):
    """Answer to a state check (NUT-07), in the order of the question."""

    states: Annotated[list[ProofState], Meta(max_length=MAX_ITEMS)]


class QuoteAnswer(msgspec.Struct, frozen=True):
    """A mint quote (NUT-23, and `pubkey` of NUT-20).

    `amount_paid`, `amount_issued` and `updated_at` are what newer wallets ask for; a mint that leaves them out
    gives None. `pubkey` is null when the quote is not locked, never an empty text.
    """

    quote: Annotated[str, Meta(min_length=1, max_length=256)]
    request: LongText
    unit: ShortText
    state: QuoteState
    amount: Amount | None = None
    expiry: Time | None = None
    pubkey: HexPoint | None = None
    method: ShortText = "bolt11"
    amount_paid: Amount | None = None
    amount_issued: Amount | None = None
    updated_at: Time | None = None


class KeysetKeys(msgspec.Struct, frozen=True):
    """A keyset with its public keys by amount, as decimal text (NUT-01). The fee is in thousandths per input."""

    id: HexKeyset
    unit: ShortText
    keys: Annotated[dict[str, HexPoint], Meta(max_length=MAX_KEYS)]
    active: bool = True
    input_fee_ppk: Annotated[int, Meta(ge=0, le=1_000_000)] | None = 0
    final_expiry: Time | None = None


class KeysAnswer(msgspec.Struct, frozen=True):
    """Answer of `/v1/keys` and `/v1/keys/<id>` (NUT-01, NUT-02)."""

    keysets: Annotated[list[KeysetKeys], Meta(max_length=MAX_KEYS)]


class KeysetInfo(msgspec.Struct, frozen=True):
    """A keyset without its keys (NUT-02). `id` may be of a form that no NUT describes any more."""

    id: ShortText
    unit: ShortText
    active: bool
    input_fee_ppk: Annotated[int, Meta(ge=0, le=1_000_000)] | None = 0
    final_expiry: Time | None = None


class KeysetsAnswer(msgspec.Struct, frozen=True):
    """Answer of `/v1/keysets` (NUT-02)."""

    keysets: Annotated[list[KeysetInfo], Meta(max_length=MAX_KEYS)]


class MintInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """Answer of `/v1/info` (NUT-06); `nuts` by number, each as its own NUT describes."""

    name: ShortText | None = None
    pubkey: HexPoint | None = None
    version: ShortText | None = None
    description: LongText | None = None
    description_long: LongText | None = None
    contact: list[dict[str, Any]] | None = None
    motd: LongText | None = None
    icon_url: LongText | None = None
    urls: list[str] | None = None
    time: Time | None = None
    tos_url: LongText | None = None
    nuts: dict[str, Any] = {}


class ErrorAnswer(msgspec.Struct, frozen=True):
    """A refusal, with HTTP status 400 (NUT-00, Errors)."""

    detail: Annotated[str, Meta(max_length=4_096)]
    code: Annotated[int, Meta(ge=0, le=99_999)]


Answer = TypeVar("Answer", bound=msgspec.Struct)


def encode(answer: msgspec.Struct) -> bytes:
    """The JSON of an answer or a request."""
    return msgspec.json.encode(answer)


def read_answer(body: bytes, kind: type[Answer]) -> Answer:
    """An answer of a mint that is not trusted; its size is bounded by whoever received it. Raises OfficeMisbehaves."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise OfficeMisbehaves("the mint's answer cannot be read") from None


def keys_of(keyset: KeysetKeys) -> dict[int, bytes]:
    """The 33-byte points by amount, if the keyset's id follows from them (NUT-02). Raises OfficeMisbehaves."""
    if not keyset.keys or not all(map(AMOUNT.fullmatch, keyset.keys)):
        raise OfficeMisbehaves("a keyset has an amount that is none")
    keys = {int(amount): bytes.fromhex(point) for amount, point in keyset.keys.items()}
    if not all(map(secp.is_point, keys.values())):
        raise OfficeMisbehaves("a keyset has a key that is no point")
    if keyset.id.startswith("00"):
        computed = keyset_id_v1(keys)
    else:
        computed = keyset_id_v2(keys, keyset.unit, keyset.input_fee_ppk, keyset.final_expiry)
    if computed != keyset.id:
        raise OfficeMisbehaves("a keyset's id does not belong to its keys")
    return keys
