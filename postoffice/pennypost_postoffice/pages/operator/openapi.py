"""What the operator's pages take, answer and refuse, for the OpenAPI document: made of their columns and shapes.

PAGES of a process ─▶ for each: the page, its .json, a .csv and a .json of each table, its form
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pennypost.protocol import errors
from pennypost_mint.api import books
from pennypost_mint.runtime.openapi import (
    BOOLEAN,
    COUNT,
    FORM,
    HEX64,
    HTML,
    INTEGER,
    JSON,
    TEXT,
    TIME,
    Answer,
    Body,
    Content,
    Operation,
    Parameter,
    Refusal,
    Schema,
    array,
    fields,
    mapping,
    one_of,
    or_null,
    record,
    refused,
)
from pennypost_postoffice.bans import Ban
from pennypost_postoffice.foreign.treasury import Balance
from pennypost_postoffice.openapi import KINDS, NIP98, SESSION
from pennypost_postoffice.operate.prices import MAX_BYTES
from pennypost_postoffice.pages.operator import bans, health, money, prices, quotes
from pennypost_postoffice.pages.operator.house import House
from pennypost_postoffice.samples import Point, Sample

Columns = Mapping[str, Any]

CELLS: Mapping[str, Schema] = {
    "text": {"type": ["string", "integer"]},
    "number": {"type": ["number", "null"]},
    "time": or_null(TIME),
    "day": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
    "code": TEXT,
}
"""What stands in a column of each kind (view.Kind)."""


class Page(NamedTuple):
    """What one page says. `form`: the fields of its form beside `key`, `needed` those it cannot do without."""

    data: Schema
    tables: Mapping[str, Columns]
    query: Sequence[Parameter] = ()
    form: Mapping[str, Schema] = {}
    needed: Sequence[str] = ()
    refusals: Sequence[Refusal] = ()
    form_refusals: Sequence[Refusal] = ()


def row(columns: Columns) -> Schema:
    """A row of a table with these columns."""
    return fields(**{name: CELLS[kind] for name, (_, kind) in columns.items()})


_KEYSET = fields(
    id=TEXT,
    active=BOOLEAN,
    final_expiry=or_null(TIME),
    **dict.fromkeys(("promotional", "signed", "spent", "outstanding"), INTEGER),
)
_BOOKS = fields(
    **dict.fromkeys(books.TOTALS, INTEGER),
    unit=one_of("sat"),
    balanced=BOOLEAN,
    faults=array(TEXT),
    keysets=array(_KEYSET),
    days=array(record(books.DayBook, day=CELLS["day"])),
)
_TREASURY = fields(sat=COUNT, mints=array(record(Balance)))
_MONEY = Page(
    fields(as_of=TIME, books=_BOOKS, play_money=BOOLEAN, lightning=fields(sat=or_null(INTEGER)), treasury=_TREASURY),
    {"days": money.DAYS, "keysets": money.KEYSETS, "treasury": money.TREASURY},
)
_NULL: Schema = {"type": "null"}
_TREASURY_ALONE = Page(fields(books=_NULL, lightning=_NULL, treasury=_TREASURY), {"treasury": money.TREASURY})

_DAY = fields(
    day=CELLS["day"],
    events=COUNT,
    sat=COUNT,
    kinds=mapping(fields(events=COUNT, sat=COUNT)),
    refused=mapping(COUNT),
)
_HEALTH = Page(
    fields(
        now=record(Point),
        hours={"type": "integer", "enum": list(health.HOURS)},
        kept_until=fields(first=or_null(TIME), last=or_null(TIME)),
        points=array(record(Point)),
        processes=array(record(Sample, process=TEXT, reasons=mapping(COUNT))),
        refused=fields(today=mapping(COUNT), week=mapping(COUNT)),
        days=array(_DAY),
    ),
    {
        "refusals": health.REFUSALS,
        "days": health.DAYS,
        "processes": health.PROCESSES,
        "points": health.POINTS,
        "reasons": health.REASONS,
    },
    (
        Parameter(
            "hours",
            "query",
            TEXT,
            f"Hours shown over time: {', '.join(map(str, health.HOURS))}; anything else is {health.HOURS[1]}",
        ),
    ),
)

_QUOTES = Page(
    fields(state=one_of(*quotes.STATES), quotes=array(row(quotes.COLUMNS))),
    {"quotes": quotes.COLUMNS},
    (
        Parameter("state", "query", TEXT, f"{', '.join(quotes.STATES)}; anything else is {quotes.STATES[0]}"),
        Parameter("before", "query", TEXT, "Payment hash of the last row of the page before"),
        Parameter("find", "query", TEXT, "Payment hash or invoice of one purchase"),
    ),
    refusals=(errors.QuoteUnknown,),
)
_ASKING = _QUOTES._replace(form={"find": TEXT}, needed=("find",), form_refusals=(errors.QuoteUnknown,))

_RULE = fields(
    kinds=or_null(array(KINDS | {"minItems": 2, "maxItems": 2})),
    **dict.fromkeys(("base", "per_kib", "per_day", "ttl_default", "ttl_max", "work", "work_instead"), COUNT),
)
_EXAMPLE = fields(kind=COUNT, bytes=COUNT, days=or_null(COUNT), sat=or_null(COUNT), code=or_null(TEXT))
_PRICES = Page(
    fields(rules=array(_RULE), free_kinds=KINDS, set=BOOLEAN, since=or_null(TIME), toml=TEXT, examples=array(_EXAMPLE)),
    {"rules": prices.RULES, "examples": prices.COSTS, "edits": prices.EDITS},
    form={"do": one_of("preview", "set", "unset"), "toml": {"type": "string", "maxLength": MAX_BYTES}},
)
_BANS = Page(
    fields(bans=array(record(Ban))),
    {"bans": bans.COLUMNS},
    form={
        "do": one_of("add", "remove"),
        "subject": one_of(*bans.SUBJECTS),
        "value": TEXT,
        "reason": {"type": "string", "maxLength": bans.MAX_REASON},
    },
    needed=("subject", "value"),
    form_refusals=(errors.InvalidKey, errors.TooManyBans),
)
_KEYSETS = Page(
    fields(selling=BOOLEAN, sunset=or_null(TIME), keysets=array(_KEYSET)),
    {"keysets": money.KEYSETS},
    form={
        "do": one_of("preview", "rotate", "preview-sunset", "sunset", "preview-resume", "resume"),
        "final_expiry": {"type": "string", "description": "A date, YYYY-MM-DD, or nothing"},
        "id": {"type": "string", "description": "Of the keyset that the preview named"},
    },
    form_refusals=(errors.SeedMismatch,),
)


def pages_of(house: House) -> dict[str, Page]:
    """The pages that have something to show in this process, by name."""
    found = {"money": _MONEY if house.keyring.keysets else _TREASURY_ALONE, "health": _HEALTH}
    if house.keyring.keysets:
        found["quotes"] = _QUOTES if house.mint is None else _ASKING
    if house.office is not None:
        found |= {"prices": _PRICES, "bans": _BANS}
    if house.keyring.keysets:
        found["keysets"] = _KEYSETS
    return found


def _refused_page(found: Sequence[Refusal]) -> Content:
    """A page; as JSON for a request that was signed, and where the pages are not served."""
    return {HTML: TEXT} | refused(found)


READING = (errors.NotFound, errors.SignInNeeded, errors.DatabaseUnavailable)
SENDING = (*READING, errors.InvalidInput, errors.FormRefused, errors.BodyTooLarge)
SIGNED = (errors.HttpAuthInvalid, errors.TooMany)
ORIGIN = Parameter("Origin", "header", TEXT, "This site's, as browsers send it with a form", required=True)
KEY: Schema = HEX64 | {"description": "Of the session, as each of its forms has it"}


def a_page(name: str, title: str, page: Page) -> Operation:
    """GET /operator/{name}."""
    return Operation(
        f"operator-{name}",
        f"{title}, for the operator",
        "The page. What it says is in its `.json`.",
        {200: Answer("The page", {HTML: TEXT})},
        (*READING, *page.refusals),
        page.query,
        security=(SESSION,),
        refused_as=_refused_page,
    )


def its_json(name: str, title: str, page: Page) -> Operation:
    """GET /operator/{name}.json."""
    return Operation(
        f"operator-{name}-json",
        f"{title}, as JSON",
        "What the page says.",
        {200: Answer("What the page says", {JSON: page.data})},
        (*READING, *SIGNED, *page.refusals),
        page.query,
        security=(SESSION, NIP98),
    )


def a_table(name: str, title: str, page: Page, table: str, kind: str) -> Operation:
    """GET /operator/{name}/{table}.{kind}."""
    if kind == "json":
        answer = Answer("The rows", {JSON: array(row(page.tables[table]))})
    else:
        named = {"type": "string", "enum": [f'attachment; filename="{name}-{table}.csv"']}
        answer = Answer("The rows (RFC 4180)", {"text/csv": TEXT}, {"Content-Disposition": named})
    return Operation(
        f"operator-{name}-{table}-{kind}",
        f"{title}: table `{table}` as {kind.upper()}",
        "All rows, also those that the page leaves out.",
        {200: answer},
        (*READING, *SIGNED, *page.refusals),
        page.query,
        security=(SESSION, NIP98),
    )


def a_form(name: str, title: str, page: Page) -> Operation:
    """POST /operator/{name}."""
    form: Schema = {
        "type": "object",
        "properties": {"key": KEY, **page.form},
        "required": ["key", *page.needed],
    }
    return Operation(
        f"operator-{name}-form",
        f"{title}: a form of the page",
        "Answered with the page, which says what was done.",
        {200: Answer("The page", {HTML: TEXT})},
        (*SENDING, *page.form_refusals),
        (ORIGIN,),
        Body({FORM: form}),
        (SESSION,),
        _refused_page,
    )


_LOCATION: Schema = {"type": "string", "pattern": "^/operator/[a-z]+$"}
_COOKIE: Schema = {"type": "string", "pattern": "; HttpOnly; SameSite=Strict(; Secure)?$"}

FIRST = Operation(
    "operator",
    "The operator's pages",
    "Leads to the first of them.",
    {303: Answer("To the first page", headers={"Location": _LOCATION})},
    (errors.NotFound,),
)
LOGIN_PAGE = Operation(
    "operator-login-page",
    "Sign-in of an operator",
    "What a link of `pennypost office login` opens. To open it does not use it up.",
    {200: Answer("The page", {HTML: TEXT})},
    (errors.NotFound,),
    (Parameter("link", "query", TEXT, "The secret of a link"),),
)
SIGN_IN = Operation(
    "operator-login",
    "Uses a link of `pennypost office login`, or a request signed by an operator (NIP-98)",
    "A link is sent as a form of the page; a signed request may have any body.",
    {303: Answer("Signed in", headers={"Location": _LOCATION, "Set-Cookie": _COOKIE})},
    (
        errors.InvalidInput,
        errors.LinkInvalid,
        errors.HttpAuthInvalid,
        errors.FormRefused,
        errors.NotFound,
        errors.BodyTooLarge,
        errors.TooMany,
        errors.DatabaseUnavailable,
    ),
    body=Body({FORM: {"type": "object", "properties": {"link": HEX64}}}, required=False),
    security=("", NIP98),
    refused_as=_refused_page,
)
SIGN_OUT = Operation(
    "operator-logout",
    "Ends the session",
    "In the browser and here.",
    {303: Answer("Signed out", headers={"Location": _LOCATION, "Set-Cookie": _COOKIE})},
    SENDING,
    (ORIGIN,),
    Body({FORM: {"type": "object", "properties": {"key": KEY}, "required": ["key"]}}),
    (SESSION,),
    _refused_page,
)
