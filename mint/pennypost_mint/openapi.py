"""What each route of the mint takes, answers and refuses, for its OpenAPI document (runtime.openapi).

Bodies and answers are described by the structs that read and write them, refusals by the classes of the error tree; a
test sends what this document allows and what it does not, and holds every answer against it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from pennypost.protocol import errors, nuts
from pennypost.protocol.answers import Amount, HexKeyset, HexPoint
from pennypost_mint.runtime.openapi import JSON, Answer, Body, Operation, Parameter, Refusal, declared, schema

Refusals = tuple[Refusal, ...]


class Document(NamedTuple):
    """One route; `refusals` are those of HTTP status 400. One that takes nothing is refused nothing.

    `temporary` are those of 500 and 503, beside a database that is away.
    """

    summary: str
    description: str
    answer: Any
    body: type[msgspec.Struct] | None = None
    refusals: Refusals = ()
    parameter: Parameter | None = None
    temporary: Refusals = ()


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
WORK: Refusals = (errors.Overloaded, errors.WorkerFailed)
"""Of what calculations are made for."""
QUOTE_ID = Parameter("quote_id", "path", {"type": "string", "pattern": r"^[0-9a-f]{32}$(?!\n)"}, "Of a mint quote")
KEYSET_ID = Parameter(
    "keyset_id",
    "path",
    {"type": "string", "pattern": r"^(00[0-9a-f]{14}|01[0-9a-f]{64})$(?!\n)"},
    "Of version 2 (66 digits) or 1 (16)",
)

DOCUMENTS: dict[str, Document] = {
    "info": Document(
        "What this mint is and does (NUT-06)",
        "Name, contact, limits and the NUTs it speaks. Stamps are not bought back: `nuts.5` is disabled.",
        nuts.MintInfo,
    ),
    "keys": Document(
        "Keysets that sign, with keys (NUT-01)", "A stamp is a proof of one of these keysets.", nuts.KeysAnswer
    ),
    "keysets": Document(
        "All keysets (NUT-02)", "Proofs of an inactive one are taken; it signs no more.", nuts.KeysetsAnswer
    ),
    "keys-of": Document(
        "One keyset with keys (NUT-02)",
        "Also of one that signs no more.",
        nuts.KeysAnswer,
        refusals=(errors.KeysetUnknown,),
        parameter=KEYSET_ID,
    ),
    "quote": Document(
        "Ask for an invoice (NUT-04, NUT-23)",
        "Makes a quote with its Lightning invoice. With `pubkey` only its key can have the stamps (NUT-20).",
        nuts.QuoteAnswer,
        nuts.QuoteRequest,
        (
            errors.InvalidInput,
            errors.AmountInvalid,
            errors.UnitUnknown,
            errors.QuotePubkey,
            errors.MintingDisabled,
        ),
        temporary=(errors.LightningUnavailable, errors.TooManyInvoices),
    ),
    "check-quote": Document(
        "Whether a quote is paid (NUT-04)",
        "Its state, and what was paid and issued of it.",
        nuts.QuoteAnswer,
        refusals=(errors.QuoteUnknown,),
        parameter=QUOTE_ID,
    ),
    "check-quotes": Document(
        "Which of several quotes are paid (NUT-29)",
        "In the order of the question.",
        list[nuts.QuoteAnswer],
        nuts.BatchCheckRequest,
        (errors.InvalidInput, errors.QuoteUnknown, *BATCH),
    ),
    "mint": Document(
        "Signatures for a paid quote (NUT-04, NUT-20)",
        "As long as more was paid than issued. The same request again has the same answer (NUT-19).",
        nuts.SignaturesAnswer,
        nuts.MintRequest,
        MINTING,
        temporary=WORK,
    ),
    "mint-batch": Document(
        "Signatures for several paid quotes (NUT-29)",
        "All of them or none. The same request again has the same answer (NUT-19).",
        nuts.SignaturesAnswer,
        nuts.BatchMintRequest,
        (*MINTING, *BATCH),
        temporary=WORK,
    ),
    "swap": Document(
        "Exchange proofs (NUT-03)",
        "Spends the inputs, signs the outputs, of the same sum. The same request again has the same answer (NUT-19).",
        nuts.SignaturesAnswer,
        nuts.SwapRequest,
        (
            *SIGNING,
            errors.ProofInvalid,
            errors.ProofLocked,
            errors.LockMalformed,
            errors.ProofSpent,
            errors.DuplicateInputs,
            errors.TooManyInputs,
        ),
        temporary=WORK,
    ),
    "check-state": Document(
        "Which proofs are spent (NUT-07)",
        "In the order of the question; of one that was never seen, UNSPENT.",
        nuts.CheckStateAnswer,
        nuts.CheckStateRequest,
        (errors.InvalidInput, errors.TooManyInputs),
    ),
    "restore": Document(
        "Signatures made before (NUT-09)",
        "Of the outputs that were ever signed, in their order.",
        nuts.RestoreAnswer,
        RestoreBody,
        OUTPUTS,
        temporary=WORK,
    ),
}
"""Every route of the mint by its name."""


def documented(name: str) -> dict[str, Any]:
    """Keyword arguments of `add_api_route` that describe this route."""
    document = DOCUMENTS[name]
    refusals: list[Refusal] = [*document.refusals, errors.DatabaseUnavailable, *document.temporary]
    if document.refusals:
        refusals.append(errors.TooMany)
    if document.body is not None:
        refusals.append(errors.BodyTooLarge)
    if document.parameter is not None:
        refusals.append(errors.NotFound)
    return declared(
        Operation(
            name=f"mint-{name}",
            summary=document.summary,
            description=document.description,
            answers={200: Answer("Done", {JSON: schema(document.answer)})},
            refusals=refusals,
            parameters=() if document.parameter is None else (document.parameter,),
            body=None if document.body is None else Body({JSON: schema(document.body)}),
        )
    )
