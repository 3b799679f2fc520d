"""What a mint is asked (NUT-03, 04, 07, 09, 20, 23, 29): strict reading of request bodies, and the lock of quotes.

    body ── parse_swap … ──▶ SwapRequest, or the error whose number the NUTs give for it

Each body is read in the same order: JSON, then how many items there are, then repeated ones, then each item. What is
refused here needs no knowledge of the mint: whether a keyset exists, units agree, amounts balance or points lie on the
curve is for the mint. Nothing that was sent is repeated in an error.

The answers, and how a wallet reads them, are in `answers`; deterministic secrets (NUT-13) in `nut13`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Any, Final, cast

import msgspec
from msgspec import Meta

from pennypost.protocol import secp
from pennypost.protocol.answers import (
    MAX_ITEMS,
    BlindedMessage,
    BlindSignature,
    CheckStateAnswer,
    ErrorAnswer,
    KeysAnswer,
    KeysetInfo,
    KeysetKeys,
    KeysetsAnswer,
    MintInfo,
    ProofState,
    QuoteAnswer,
    RestoreAnswer,
    SignatureDleq,
    SignaturesAnswer,
    encode,
    keys_of,
    read_answer,
)
from pennypost.protocol.errors import (
    AmountInvalid,
    BatchTooLarge,
    DuplicateInputs,
    DuplicateOutputs,
    DuplicateQuotes,
    InvalidInput,
    KeysetUnknown,
    MintError,
    OutputInvalid,
    ProofInvalid,
    QuotePubkey,
    QuoteSignature,
    QuoteUnknown,
    TooManyInputs,
    TooManyOutputs,
    Unbalanced,
    UnitUnknown,
)
from pennypost.protocol.keyset import is_keyset_id
from pennypost.protocol.proof import MAX_AMOUNT, MAX_SECRET, MAX_UNIT, MAX_WITNESS, Proof, utf8_length

__all__ = [
    "MAX_BATCH",
    "MAX_ITEMS",
    "BatchCheckRequest",
    "BatchMintRequest",
    "BlindSignature",
    "BlindedMessage",
    "CheckStateAnswer",
    "CheckStateRequest",
    "ErrorAnswer",
    "KeysAnswer",
    "KeysetInfo",
    "KeysetKeys",
    "KeysetsAnswer",
    "MintInfo",
    "MintRequest",
    "Proof",
    "ProofState",
    "QuoteAnswer",
    "QuoteRequest",
    "RestoreAnswer",
    "RestoreRequest",
    "SignatureDleq",
    "SignaturesAnswer",
    "SwapRequest",
    "batch_hashes",
    "encode",
    "keys_of",
    "older_quote_message",
    "parse_batch_check",
    "parse_batch_mint",
    "parse_blank_outputs",
    "parse_check_state",
    "parse_mint",
    "parse_quote",
    "parse_restore",
    "parse_swap",
    "quote_hashes",
    "quote_message",
    "read_answer",
    "sign_quote",
    "verify_quote",
]

MAX_SUM: Final = (1 << 63) - 1
"""The largest sum of amounts: what a database keeps in a signed integer of 64 bits."""
MAX_DESCRIPTION: Final = 639
"""Bytes of a description, as many as an invoice takes (BOLT 11, field d)."""
MAX_BLANKS: Final = 64
"""Blank outputs that change is given on: one for each amount there can be (NUT-08)."""
MAX_BATCH: Final = 100
"""Quotes of one batch (NUT-29, announced as max_batch_size): as many as cashu-ts sends at most."""
QUOTE_TAG: Final = b"Cashu_MintQuoteSig_v1"

_POINT: Final = re.compile(r"0[23][0-9a-f]{64}")
_POINTS: Final = re.compile(r"(?:0[23][0-9a-fA-F]{64})*")
_SIGNATURE: Final = re.compile(r"[0-9a-f]{128}")
_QUOTE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


# What these say of their fields is for the OpenAPI document; they are read below, with the numbers that the NUTs give.
QuoteId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$(?!\n)")]
QuoteSign = Annotated[str, Meta(pattern=r"^[0-9a-f]{128}$(?!\n)")]
HexKey = Annotated[str, Meta(pattern=r"^0[23][0-9a-f]{64}$(?!\n)")]
HexY = Annotated[str, Meta(pattern=r"^0[23][0-9a-fA-F]{64}$(?!\n)")]
Outputs = Annotated[list[BlindedMessage], Meta(max_length=MAX_ITEMS)]


class SwapRequest(msgspec.Struct, frozen=True):
    """Body of `POST /v1/swap` (NUT-03). A proof's DLEQ was dropped unread."""

    inputs: Annotated[list[Proof], Meta(max_length=MAX_ITEMS)]
    outputs: Outputs


class QuoteRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """Body of `POST /v1/mint/quote/bolt11` (NUT-23): `amount` in `unit`; `pubkey` locks the quote (NUT-20)."""

    amount: Annotated[int, Meta(ge=1, le=MAX_SUM)]
    unit: Annotated[str, Meta(min_length=1, max_length=MAX_UNIT)]
    description: Annotated[str, Meta(max_length=MAX_DESCRIPTION)] | None = None
    pubkey: HexKey | None = None


class MintRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """Body of `POST /v1/mint/bolt11` (NUT-04); `signature` for a locked quote, 128 hex digits (NUT-20)."""

    quote: QuoteId
    outputs: Outputs
    signature: QuoteSign | None = None


class BatchCheckRequest(msgspec.Struct, frozen=True):
    """Body of `POST /v1/mint/quote/bolt11/check` (NUT-29)."""

    quotes: Annotated[list[QuoteId], Meta(max_length=MAX_BATCH)]


class BatchMintRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """Body of `POST /v1/mint/bolt11/batch` (NUT-29): `quote_amounts` and `signatures`, where there are any, one for
    each quote; a signature of 128 hex digits for a locked quote, null for another."""

    quotes: Annotated[list[QuoteId], Meta(min_length=1, max_length=MAX_BATCH)]
    outputs: Outputs
    quote_amounts: Annotated[list[Annotated[int, Meta(ge=1, le=MAX_SUM)]], Meta(max_length=MAX_BATCH)] | None = None
    signatures: Annotated[list[QuoteSign | None], Meta(max_length=MAX_BATCH)] | None = None


class CheckStateRequest(msgspec.Struct, frozen=True):
    """Body of `POST /v1/checkstate` (NUT-07): the Ys as they were sent, in lower- or upper-case hex."""

    Ys: Annotated[list[HexY], Meta(max_length=MAX_ITEMS)]

    def points(self) -> list[bytes]:
        """The Ys as 33 bytes each, in order."""
        return [bytes.fromhex(Y) for Y in self.Ys]


class RestoreRequest(msgspec.Struct, frozen=True):
    """Body of `POST /v1/restore` (NUT-09); the outputs' amounts mean nothing here and may be 0."""

    outputs: list[BlindedMessage]


def parse_swap(body: bytes) -> SwapRequest:
    """Read a swap (NUT-03).

    Raises InvalidInput, TooManyInputs, TooManyOutputs, DuplicateInputs, DuplicateOutputs, AmountInvalid, KeysetUnknown,
    ProofInvalid, OutputInvalid, and Unbalanced when inputs or outputs are empty.
    """
    fields = _fields(body)
    inputs = _items(fields, "inputs", TooManyInputs)
    outputs = _items(fields, "outputs", TooManyOutputs)
    return SwapRequest(_inputs(inputs), _outputs(outputs))


def parse_quote(body: bytes) -> QuoteRequest:
    """Read a request for a quote (NUT-23, NUT-20). Raises InvalidInput, AmountInvalid, UnitUnknown, QuotePubkey."""
    fields = _fields(body)
    amount, unit = fields.get("amount"), fields.get("unit")
    description, pubkey = fields.get("description"), fields.get("pubkey")
    if type(amount) is not int or not 0 < amount <= MAX_SUM:
        raise AmountInvalid
    if not isinstance(unit, str) or not 0 < utf8_length(unit) <= MAX_UNIT:
        raise UnitUnknown
    if description is not None and not _is_text(description, MAX_DESCRIPTION):
        raise InvalidInput("a description is text of at most 639 bytes")
    if pubkey is not None and not (_matches(_POINT, pubkey) and secp.is_point(bytes.fromhex(cast("str", pubkey)))):
        raise QuotePubkey
    return QuoteRequest(amount, unit, cast("str | None", description), cast("str | None", pubkey))


def parse_mint(body: bytes) -> MintRequest:
    """Read a request to mint (NUT-04, NUT-20).

    Raises InvalidInput, QuoteUnknown for what can be no quote's id, QuoteSignature for what can be no signature, and
    for outputs what `parse_swap` raises.
    """
    fields = _fields(body)
    quote, signature = fields.get("quote"), fields.get("signature")
    outputs = _items(fields, "outputs", TooManyOutputs)
    if not _matches(_QUOTE, quote):
        raise QuoteUnknown
    if signature is not None and not _matches(_SIGNATURE, signature):
        raise QuoteSignature
    return MintRequest(cast("str", quote), _outputs(outputs), cast("str | None", signature))


def parse_batch_check(body: bytes) -> BatchCheckRequest:
    """Read a check of several quotes (NUT-29). Raises InvalidInput, BatchTooLarge, DuplicateQuotes, QuoteUnknown."""
    return BatchCheckRequest(_quotes(_fields(body)))


def parse_batch_mint(body: bytes) -> BatchMintRequest:
    """Read a request to mint against several quotes (NUT-29, Request Validation).

    Raises InvalidInput, BatchTooLarge, DuplicateQuotes, QuoteUnknown, AmountInvalid; QuoteSignature for what can be no
    list of signatures; Unbalanced when amounts of quotes and outputs differ; for outputs what `parse_swap` raises.
    """
    fields = _fields(body)
    quotes = _quotes(fields)
    if not quotes:
        raise InvalidInput("a batch has at least one quote")
    items = _items(fields, "outputs", TooManyOutputs)
    amounts = _quote_amounts(fields.get("quote_amounts"), len(quotes))
    signatures = _signatures(fields.get("signatures"), len(quotes))
    outputs = _outputs(items)
    if amounts is not None and sum(amounts) != sum(output.amount for output in outputs):
        raise Unbalanced
    return BatchMintRequest(quotes, outputs, amounts, signatures)


def parse_check_state(body: bytes) -> CheckStateRequest:
    """Read a state check (NUT-07). Raises InvalidInput and TooManyInputs; repeated Ys are answered each."""
    Ys = _items(_fields(body), "Ys", TooManyInputs)
    # Each of its length and then all as one text: one search instead of one for each.
    if not (all(isinstance(Y, str) and len(Y) == 66 for Y in Ys) and _POINTS.fullmatch("".join(cast("list[str]", Ys)))):
        raise InvalidInput("a Y is a compressed point of 66 hex digits")
    return CheckStateRequest(cast("list[str]", Ys))


def parse_restore(body: bytes) -> RestoreRequest:
    """Read a restore (NUT-09). Raises what `parse_swap` raises for outputs; amounts may be anything from 0."""
    outputs = _items(_fields(body), "outputs", TooManyOutputs)
    return RestoreRequest([_output(each, priced=False) for each in _without_repeats(outputs)])


def parse_blank_outputs(value: object, limit: int = MAX_BLANKS) -> list[BlindedMessage]:
    """Read blank outputs for change from decoded JSON (NUT-08); their amounts are the office's to set, and 0 here.

    Raises InvalidInput, TooManyOutputs, DuplicateOutputs, KeysetUnknown, OutputInvalid.
    """
    outputs = _items({"change": value}, "change", TooManyOutputs, limit)
    parsed = [_output(each, priced=False) for each in _without_repeats(outputs)]
    return [BlindedMessage(0, output.id, output.B_) for output in parsed]


def quote_message(quote: str, outputs: Sequence[BlindedMessage]) -> bytes:
    """What the key of a locked quote signs, as amended: each field with its length before it (NUT-20, NUT-29).

        "Cashu_MintQuoteSig_v1" ‖ len32(quote) ‖ quote ‖ for each output: len32(amount) ‖ amount ‖ len32(B_) ‖ B_

    Lengths are 4 bytes big-endian, amounts as few bytes as they need, B_ the 33 bytes of the point.
    """
    parts = [QUOTE_TAG, _framed(quote.encode())]
    for output in outputs:
        amount = output.amount
        parts += [_framed(amount.to_bytes((amount.bit_length() + 7) // 8)), _framed(bytes.fromhex(output.B_))]
    return b"".join(parts)


def older_quote_message(quote: str, outputs: Sequence[BlindedMessage]) -> bytes:
    """What wallets sign that do not know the amendment: the quote's id and the B_ in hex, joined (NUT-20)."""
    return "".join([quote, *(output.B_ for output in outputs)]).encode()


def quote_hashes(quote: str, outputs: Sequence[BlindedMessage]) -> list[bytes]:
    """The 32-byte hashes of which one must be signed: of the amended message, then of the older one."""
    return [sha256(message(quote, outputs)).digest() for message in (quote_message, older_quote_message)]


def batch_hashes(quotes: Sequence[str], outputs: Sequence[BlindedMessage]) -> list[list[bytes]]:
    """`quote_hashes` of several quotes over the same outputs (NUT-29, Signature Message), which are encoded once."""
    amended = quote_message("", outputs)[len(QUOTE_TAG) + 4 :]
    older = older_quote_message("", outputs)
    return [
        [sha256(QUOTE_TAG + _framed(quote.encode()) + amended).digest(), sha256(quote.encode() + older).digest()]
        for quote in quotes
    ]


def sign_quote(secret: bytes, quote: str, outputs: Sequence[BlindedMessage], aux: bytes, *, older: bool = False) -> str:
    """The signature that unlocks a quote, 128 hex digits; `aux` is 32 random bytes, `older` for older mints."""
    message32 = quote_hashes(quote, outputs)[older]
    return secp.schnorr_sign(secret, message32, aux).hex()


def verify_quote(pubkey: str, quote: str, outputs: Sequence[BlindedMessage], signature: str | None) -> bool:
    """Whether a quote's key (66 hex digits) signed these outputs, in the amended or the older form; never raises."""
    if not _matches(_SIGNATURE, signature) or not _matches(_POINT, pubkey):
        return False
    sig64, xonly = bytes.fromhex(cast("str", signature)), bytes.fromhex(pubkey)[1:]
    return any(secp.schnorr_verify(xonly, message32, sig64) for message32 in quote_hashes(quote, outputs))


def _framed(field: bytes) -> bytes:
    return len(field).to_bytes(4) + field


def _fields(body: bytes) -> dict[str, object]:
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidInput("the body is not JSON") from None
    if not isinstance(value, dict):
        raise InvalidInput("the body is not a JSON object")
    return cast("dict[str, object]", value)


def _items(fields: dict[str, object], name: str, too_many: type[MintError], limit: int = MAX_ITEMS) -> list[object]:
    value = fields.get(name)
    if not isinstance(value, list):
        raise InvalidInput(f"{name} is not a list")
    items = cast("list[object]", value)
    if len(items) > limit:
        raise too_many
    return items


def _quotes(fields: dict[str, object]) -> list[str]:
    quotes = _items(fields, "quotes", BatchTooLarge, MAX_BATCH)
    texts = [quote for quote in quotes if isinstance(quote, str)]
    if len(set(texts)) != len(texts):
        raise DuplicateQuotes
    if not all(_matches(_QUOTE, quote) for quote in quotes):
        raise QuoteUnknown
    return texts


def _quote_amounts(value: object, count: int) -> list[int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(cast("list[object]", value)) != count:
        raise InvalidInput("quote_amounts has one amount for each quote")
    amounts = [each for each in cast("list[object]", value) if type(each) is int and 0 < each <= MAX_SUM]
    if len(amounts) != count:
        raise AmountInvalid
    return amounts


def _signatures(value: object, count: int) -> list[str | None] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(cast("list[object]", value)) != count:
        raise QuoteSignature
    signatures = cast("list[object]", value)
    if not all(each is None or _matches(_SIGNATURE, each) for each in signatures):
        raise QuoteSignature
    return cast("list[str | None]", signatures)


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_text(value: object, limit: int) -> bool:
    return isinstance(value, str) and utf8_length(value) <= limit and "\0" not in value


def _amount(value: object) -> int:
    if type(value) is not int or not 0 < value <= MAX_AMOUNT or value & (value - 1):
        raise AmountInvalid
    return value


def _keyset(value: object) -> str:
    if not isinstance(value, str) or not is_keyset_id(value):
        raise KeysetUnknown
    return value


def _inputs(items: list[object]) -> list[Proof]:
    secrets = [cast("dict[str, object]", item).get("secret") for item in items if isinstance(item, dict)]
    texts = [secret for secret in secrets if isinstance(secret, str)]
    if len(set(texts)) != len(texts):
        raise DuplicateInputs
    proofs = [_input(item) for item in items]
    if not 0 < sum(proof.amount for proof in proofs) <= MAX_SUM:
        raise Unbalanced if not proofs else AmountInvalid
    return proofs


def _input(item: object) -> Proof:
    if not isinstance(item, dict):
        raise ProofInvalid("an input is not an object")
    fields = cast("dict[str, object]", item)
    amount, keyset = _amount(fields.get("amount")), _keyset(fields.get("id"))
    secret, C, witness = fields.get("secret"), fields.get("C"), _witness(fields.get("witness"))
    if not secret or not _is_text(secret, MAX_SECRET):
        raise ProofInvalid("a secret is text of 1 to 1,024 bytes")
    if not _matches(_POINT, C):
        raise ProofInvalid("C is a compressed point of 66 lower-case hex digits")
    return Proof(amount, keyset, cast("str", secret), cast("str", C), witness)


def _witness(value: object) -> str | None:
    # An object instead of its serialised form is what some wallets send (NUT-11, Signed inputs).
    text = msgspec.json.encode(cast("object", value)).decode() if isinstance(value, dict) else value
    if text is not None and not _is_text(text, MAX_WITNESS):
        raise ProofInvalid("a witness has at most 1,024 bytes")
    return cast("str | None", text)


def _without_repeats(items: list[object]) -> list[object]:
    """The same outputs, once it is sure that no B_ comes twice, in whatever case of its hex digits."""
    points = [cast("dict[str, object]", item).get("B_") for item in items if isinstance(item, dict)]
    texts = [point.lower() for point in points if isinstance(point, str)]
    if len(set(texts)) != len(texts):
        raise DuplicateOutputs
    return items


def _outputs(items: list[object]) -> list[BlindedMessage]:
    outputs = [_output(item) for item in _without_repeats(items)]
    if not 0 < sum(output.amount for output in outputs) <= MAX_SUM:
        raise Unbalanced if not outputs else AmountInvalid
    return outputs


def _output(item: object, *, priced: bool = True) -> BlindedMessage:
    if not isinstance(item, dict):
        raise OutputInvalid("an output is not an object")
    fields = cast("dict[str, object]", item)
    amount, keyset, B_ = fields.get("amount", 0), _keyset(fields.get("id")), fields.get("B_")
    if priced:
        amount = _amount(amount)
    elif type(amount) is not int or not 0 <= amount <= MAX_AMOUNT:
        raise AmountInvalid
    if not _matches(_POINT, B_):
        raise OutputInvalid("B_ is a compressed point of 66 lower-case hex digits")
    return BlindedMessage(amount, keyset, cast("str", B_))
