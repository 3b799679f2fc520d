"""OpenAPI of the mint's routes: what each takes, answers and refuses.

The framework is given no models, so that it checks nothing on the way. Bodies and answers are described by the structs
that read and write them, refusals by the classes of the error tree; a test sends what this document allows and what it
does not, and holds every answer against it.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import msgspec

from pennypost.protocol import errors, nuts
from pennypost.protocol.answers import Amount, HexKeyset, HexPoint
from pennypost.protocol.errors import PennypostError

JSON = "application/json"

Refusals = tuple[type[PennypostError], ...]

RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer", "minimum": 1}}}


class Parameter(NamedTuple):
    """A part of the path, and the form without which it names nothing."""

    name: str
    pattern: str


class Document(NamedTuple):
    """One route; `refusals` are those of HTTP status 400. One that takes nothing is refused nothing."""

    summary: str
    answer: Any
    body: type[msgspec.Struct] | None = None
    refusals: Refusals = ()
    parameter: Parameter | None = None


class RestoreOutput(msgspec.Struct):
    """An output (NUT-00) whose amount means nothing and may be left out."""

    id: HexKeyset
    B_: HexPoint
    amount: Amount = 0


class RestoreBody(msgspec.Struct):
    """Body of `POST /v1/restore` (NUT-09)."""

    outputs: list[RestoreOutput]


OUTPUTS: Refusals = (
    errors.InvalidInput,
    errors.OutputInvalid,
    errors.AmountInvalid,
    errors.DuplicateOutputs,
    errors.TooManyOutputs,
    errors.KeysetUnknown,
)
SIGNING: Refusals = (
    *OUTPUTS,
    errors.OutputSigned,
    errors.Unbalanced,
    errors.MixedUnits,
    errors.UnitMismatch,
    errors.KeysetInactive,
    errors.KeysetExpired,
)
MINTING: Refusals = (
    *SIGNING,
    errors.QuoteUnknown,
    errors.QuoteUnpaid,
    errors.QuoteIssued,
    errors.QuoteSignature,
)
BATCH: Refusals = (errors.DuplicateQuotes, errors.BatchTooLarge)
QUOTE_ID = Parameter("quote_id", "^[0-9a-f]{32}$")
KEYSET_ID = Parameter("keyset_id", "^(00[0-9a-f]{14}|01[0-9a-f]{64})$")

DOCUMENTS: dict[str, Document] = {
    "info": Document("What this mint is and does (NUT-06)", nuts.MintInfo),
    "keys": Document("Keysets that sign, with keys (NUT-01)", nuts.KeysAnswer),
    "keysets": Document("All keysets (NUT-02)", nuts.KeysetsAnswer),
    "keys-of": Document(
        "One keyset with keys (NUT-02)", nuts.KeysAnswer, refusals=(errors.KeysetUnknown,), parameter=KEYSET_ID
    ),
    "quote": Document(
        "Ask for an invoice (NUT-04, NUT-23)",
        nuts.QuoteAnswer,
        nuts.QuoteRequest,
        (
            errors.InvalidInput,
            errors.AmountInvalid,
            errors.UnitUnknown,
            errors.QuotePubkey,
            errors.MintingDisabled,
        ),
    ),
    "check-quote": Document(
        "Whether a quote is paid (NUT-04)", nuts.QuoteAnswer, refusals=(errors.QuoteUnknown,), parameter=QUOTE_ID
    ),
    "check-quotes": Document(
        "Which of several quotes are paid (NUT-29)",
        list[nuts.QuoteAnswer],
        nuts.BatchCheckRequest,
        (errors.InvalidInput, errors.QuoteUnknown, *BATCH),
    ),
    "mint": Document("Signatures for a paid quote (NUT-04, NUT-20)", nuts.SignaturesAnswer, nuts.MintRequest, MINTING),
    "mint-batch": Document(
        "Signatures for several paid quotes (NUT-29)",
        nuts.SignaturesAnswer,
        nuts.BatchMintRequest,
        (*MINTING, *BATCH),
    ),
    "swap": Document(
        "Exchange proofs (NUT-03)",
        nuts.SignaturesAnswer,
        nuts.SwapRequest,
        (*SIGNING, errors.ProofInvalid, errors.ProofSpent, errors.DuplicateInputs, errors.TooManyInputs),
    ),
    "check-state": Document(
        "Which proofs are spent (NUT-07)",
        nuts.CheckStateAnswer,
        nuts.CheckStateRequest,
        (errors.InvalidInput, errors.TooManyInputs),
    ),
    "restore": Document("Signatures made before (NUT-09)", nuts.RestoreAnswer, RestoreBody, OUTPUTS),
}
"""Every route of the mint by its name."""


def documented(name: str) -> dict[str, Any]:
    """Keyword arguments of `add_api_route` that describe this route."""
    document = DOCUMENTS[name]
    extra: dict[str, Any] = {}
    if document.body is not None:
        extra["requestBody"] = {"required": True, "content": {JSON: {"schema": schema(document.body)}}}
    if document.parameter is not None:
        form = {"type": "string", "pattern": document.parameter.pattern}
        extra["parameters"] = [{"name": document.parameter.name, "in": "path", "required": True, "schema": form}]
    return {
        "summary": document.summary,
        "operation_id": f"mint-{name}",
        "responses": _responses(document),
        "openapi_extra": extra or None,
    }


def _responses(document: Document) -> dict[int, Any]:
    responses: dict[int, Any] = {
        200: {"description": "Done", "content": {JSON: {"schema": schema(document.answer)}}},
        500: _refused("A failure of ours; repeating is safe"),
        503: _refused("Temporarily not possible; repeating is safe", headers=RETRY_AFTER),
    }
    if document.refusals:
        sentences = {refusal.cashu: refusal.sentence() for refusal in reversed(document.refusals)}
        listed = "\n".join(f"- {code}: {sentences[code]}" for code in sorted(sentences))
        responses[400] = _refused(f"Refused, with one of these codes:\n{listed}", codes=sorted(sentences))
        responses[429] = _refused("This source asks too much", headers=RETRY_AFTER)
    if document.body is not None:
        responses[413] = _refused("The body is larger than 1 MiB")
    if document.parameter is not None:
        responses[404] = _refused("This is no address of the mint")
    return responses


def _refused(description: str, *, codes: list[int] | None = None, headers: Any = None) -> dict[str, Any]:
    form = schema(nuts.ErrorAnswer)
    if codes is not None:
        form["properties"]["code"] = {"type": "integer", "enum": codes}
    return {"description": description, "content": {JSON: {"schema": form}}} | ({"headers": headers} if headers else {})


def schema(kind: Any) -> dict[str, Any]:
    """JSON Schema of a struct or a list of them, with definitions in place, since none of them refers to itself."""
    whole = msgspec.json.schema(kind)
    definitions = cast("dict[str, Any]", whole.pop("$defs", {}))
    return cast("dict[str, Any]", _inline(whole, definitions))


def _inline(value: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_inline(each, definitions) for each in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, Any]", value)
    if "$ref" in fields:
        return _inline(definitions[fields["$ref"].rpartition("/")[2]], definitions)
    return {name: _inline(each, definitions) for name, each in fields.items()}
