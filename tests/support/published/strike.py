"""Strike's API, version v1.

Read at docs.strike.me/api: "Issue invoice", "Issue quote for invoice", "Find invoice by ID", "Get account balance
details", and "Introduction" for errors. No registry has its OpenAPI document.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from tests.support.published import TEXT, TIME, UUID, Schema, hexadecimal, list_of, one_of, shape, strays, whole

CURRENCY = one_of("BTC", "USD", "EUR", "USDT", "GBP", "AUD")
DECIMAL: Schema = {"type": "string", "pattern": r"^\d+(\.\d+)?$"}
AMOUNT = shape({"amount": DECIMAL, "currency": CURRENCY})

_INVOICE = (
    {
        "invoiceId": UUID,
        "amount": AMOUNT,
        "state": one_of("UNPAID", "PENDING", "PAID", "CANCELLED"),
        "created": TIME,
        "issuerId": UUID,
        "receiverId": UUID,
    },
    # Transactions come only when they are asked for.
    {"correlationId": TEXT, "description": TEXT, "payerId": UUID},
)
_BALANCE = dict.fromkeys(("current", "pending", "outgoing", "reserved", "available", "total"), DECIMAL)
ERROR = shape(
    {
        "data": {
            "type": "object",
            "required": ["status", "code", "message"],
            "properties": {"status": {"type": "integer"}, "code": TEXT, "message": TEXT},
        }
    },
    {"traceId": TEXT},
)


class Route(NamedTuple):
    """`request` is None where there is no body."""

    verb: str
    path: str
    request: Schema | None
    status: int
    response: Schema


ROUTES = (
    Route("GET", "/v1/balances", None, 200, list_of(shape({"currency": CURRENCY} | _BALANCE, {"stacks": {}}))),
    Route(
        "POST",
        "/v1/invoices",
        shape(
            {"amount": AMOUNT},
            {"correlationId": TEXT | {"maxLength": 40}, "description": TEXT | {"maxLength": 200}},
        ),
        201,
        shape(*_INVOICE),
    ),
    Route(
        "POST",
        "/v1/invoices/[^/]+/quote",
        shape({}, {"descriptionHash": hexadecimal(32)}),
        201,
        shape(
            {
                "quoteId": UUID,
                "lnInvoice": TEXT,
                "expiration": TIME,
                "expirationInSec": whole(63),
                "targetAmount": AMOUNT,
                "sourceAmount": AMOUNT,
                "conversionRate": shape({"amount": DECIMAL, "sourceCurrency": CURRENCY, "targetCurrency": CURRENCY}),
            },
            {"description": TEXT, "onchainAddress": TEXT},
        ),
    ),
    Route("GET", "/v1/invoices/[^/]+", None, 200, shape(*_INVOICE)),
)
ERRORS = frozenset({400, 401, 403, 404, 409, 422, 429, 500, 503})


def judge(verb: str, path: str, body: Any, status: int, answer: Any) -> list[str]:
    """What of one call, or of its answer, does not fit; `body` is None where nothing was sent."""
    route = next((each for each in ROUTES if each.verb == verb and re.fullmatch(each.path, path)), None)
    if route is None:
        return [f"{verb} {path} is no route"]
    found = strays(route.request, body) if route.request is not None else [] if body is None else ["a body"]
    if status in ERRORS:
        return found + strays(ERROR, answer)
    return found + strays(route.response, answer) + ([] if status == route.status else [f"status {status}"])
