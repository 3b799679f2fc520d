"""Core Lightning v26.06.6, through clnrest.

Read in ElementsProject/lightning at tag v26.06.6: doc/schemas/{invoice,listinvoices,waitanyinvoice,listfunds}.json for
fields, doc/rpc-schema-draft.json for the names of types, plugins/rest-plugin/src/{handlers,structs,shared}.rs for
statuses. What PyPI has of them, `pyln-grpc-proto`, stopped at 24.02 and asks for `protobuf3`; it is not used.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.support.published import FLAG, TEXT, Schema, hexadecimal, list_of, one_of, shape, strays, whole

U16, U32, U64, MSAT, HASH, HEX = whole(16), whole(32), whole(64), whole(64), hexadecimal(32), hexadecimal()
LABEL: Schema = {"type": ["string", "integer"]}
SHORT_CHANNEL_ID: Schema = {"type": "string", "pattern": r"^\d+x\d+x\d+$"}
POINT: Schema = {"type": "string", "pattern": "^0[23][0-9a-f]{64}$"}

_OF_EVERY_INVOICE = (
    {"label": LABEL, "payment_hash": HASH, "expires_at": U64, "created_index": U64},
    {"description": TEXT, "amount_msat": MSAT, "bolt11": TEXT, "bolt12": TEXT, "updated_index": U64},
)
_PAID = (
    {"pay_index": U64, "amount_received_msat": MSAT, "paid_at": U64, "payment_preimage": HASH},
    {"paid_outpoint": shape({"txid": HASH, "outnum": U32})},
)


def _invoice(unpaid: tuple[str, ...], more: dict[str, Schema]) -> Schema:
    """A paid invoice has four fields more; any other has none of them."""
    must, may = _OF_EVERY_INVOICE
    return {
        "oneOf": [
            shape(must | {"status": one_of(*unpaid)}, may | more),
            shape(must | {"status": one_of("paid")} | _PAID[0], may | more | _PAID[1]),
        ]
    }


# Of what happens to a channel after CHANNELD_NORMAL its short id may stay; before, it has none.
_CHANNEL = {
    "peer_id": POINT,
    "our_amount_msat": MSAT,
    "amount_msat": MSAT,
    "funding_txid": HASH,
    "funding_output": U32,
    "connected": FLAG,
    "channel_id": HASH,
}
_CLOSING = (
    "CHANNELD_SHUTTING_DOWN",
    "CLOSINGD_SIGEXCHANGE",
    "CLOSINGD_COMPLETE",
    "AWAITING_UNILATERAL",
    "FUNDING_SPEND_SEEN",
    "ONCHAIN",
)
_OPENING = (
    "OPENINGD",
    "CHANNELD_AWAITING_LOCKIN",
    "DUALOPEND_OPEN_INIT",
    "DUALOPEND_AWAITING_LOCKIN",
    "CHANNELD_AWAITING_SPLICE",
    "DUALOPEND_OPEN_COMMITTED",
    "DUALOPEND_OPEN_COMMIT_READY",
)
CHANNEL: Schema = {
    "oneOf": [
        shape(_CHANNEL | {"state": one_of("CHANNELD_NORMAL"), "short_channel_id": SHORT_CHANNEL_ID}),
        shape(_CHANNEL | {"state": one_of(*_CLOSING)}, {"short_channel_id": SHORT_CHANNEL_ID}),
        shape(_CHANNEL | {"state": one_of(*_OPENING)}, {"short_channel_id": SHORT_CHANNEL_ID}),
    ]
}


class Method(NamedTuple):
    """What goes in, what comes out, and the codes it fails with besides -1 and those of every method."""

    request: Schema
    response: Schema
    codes: frozenset[int] = frozenset()


METHODS = {
    "invoice": Method(
        shape(
            {"amount_msat": {"oneOf": [MSAT, one_of("any")]}, "label": LABEL, "description": TEXT},
            {
                "expiry": U64,
                "fallbacks": list_of(TEXT),
                "preimage": HEX,
                "exposeprivatechannels": {
                    "anyOf": [FLAG, list_of(SHORT_CHANNEL_ID), SHORT_CHANNEL_ID],
                },
                "cltv": U32,
                "deschashonly": FLAG,
            },
        ),
        shape(
            {"payment_hash": HASH, "expires_at": U64, "created_index": U64, "bolt11": TEXT, "payment_secret": HASH},
            dict.fromkeys(
                (f"warning_{each}" for each in ["capacity", "offline", "deadends", "private_unused", "mpp"]), TEXT
            ),
        ),
        frozenset({900, 901, 902}),
    ),
    "listinvoices": Method(
        shape(
            {},
            {
                "label": LABEL,
                "invstring": TEXT,
                "payment_hash": HEX,
                "offer_id": TEXT,
                "index": one_of("created", "updated"),
                "start": U64,
                "limit": U32,
            },
        ),
        shape(
            {
                "invoices": list_of(
                    _invoice(("unpaid", "expired"), {"local_offer_id": HASH, "invreq_payer_note": TEXT})
                ),
            }
        ),
    ),
    "waitanyinvoice": Method(
        shape({}, {"lastpay_index": U64, "timeout": U64}),
        _invoice(("expired",), {}),
        frozenset({904}),
    ),
    "listfunds": Method(
        shape({}, {"spent": FLAG}),
        # What lies on the chain is never read.
        shape({"outputs": {"type": "array", "maxItems": 0}, "channels": list_of(CHANNEL)}),
    ),
}
OK, ERRORS = 201, frozenset({401, 403, 404, 405, 406, 500})
OF_EVERY_METHOD = frozenset({-1, -32601, -32602, 1501, 1502})


def judge(verb: str, path: str, parameters: Any, status: int, answer: Any) -> list[str]:
    """What of one call, or of its answer, does not fit."""
    name = path.removeprefix("/v1/")
    if verb != "POST" or name not in METHODS:
        return [f"{verb} {path} is no method"]
    method = METHODS[name]
    found = strays(method.request, parameters)
    if status == OK:
        return found + strays(method.response, answer)
    codes = {"enum": sorted(OF_EVERY_METHOD | method.codes)}
    found += strays(shape({"code": codes, "message": TEXT}, {"data": {}}), answer)
    return found + ([] if status in ERRORS else [f"status {status}"])
