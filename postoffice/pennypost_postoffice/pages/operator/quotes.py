"""Purchases: which wait, and the one that was "paid but not credited", found by its payment hash or invoice.

No quote's id is shown: whoever has that of an unlocked paid quote can have its stamps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pennypost.protocol.errors import NotFound, PennypostError
from pennypost_mint.api import Quote, purchases
from pennypost_postoffice.pages.markup import Html, inside, tag
from pennypost_postoffice.pages.operator.house import House
from pennypost_postoffice.pages.operator.view import Row, Table, View, button, form, hidden, notice, table

PATH = "/operator/quotes"
TITLE = "Purchases"
STATES = ("open", "paid", "lapsed", "issued", "all")
PAGE = 100
FILE = 100_000
"""Most rows of a file, the latest first; `before` with the last one's payment hash goes on."""

COLUMNS: Mapping[str, Any] = {
    "payment_hash": ("Payment hash", "code"),
    "state": ("State", "text"),
    "amount": ("Sat", "number"),
    "amount_paid": ("Paid", "number"),
    "amount_issued": ("Issued", "number"),
    "created_at": ("Made", "time"),
    "expiry": ("Payable until", "time"),
}
BECAME = {
    "credited": "It was paid and is credited now: the buyer’s wallet has the stamps from the same quote.",
    "lapsed": "It was not paid, and can no longer be paid.",
    "waiting": "It is not paid yet.",
    "too little": "Less was received than the quote asks; it waits for the rest.",
    "nothing new": "It was credited before. What is not issued waits for the buyer’s wallet.",
    "no answer": "The Lightning node did not answer. Ask again in a minute.",
}


async def read(house: House, query: Mapping[str, str], key: str) -> View:
    """`state` one of STATES, `before` the payment hash of the row before the page, `find` one purchase.

    Raises DatabaseUnavailable, QuoteUnknown for `before`.
    """
    return await _view(house, query, key, None)


async def act(house: House, form: Mapping[str, str], key: str) -> View:
    """Asks the node about one purchase and credits what it received. Raises QuoteUnknown, NotFound."""
    if house.mint is None:
        raise NotFound("this process serves no mint")
    quote = await purchases.find(house.database, form.get("find", ""))
    looked = await purchases.look(house.mint.till, quote)
    house.books.forget()
    text = BECAME[looked.became] + f" {looked.credited:,} sat." * bool(looked.credited)
    said = notice(text, "good" if looked.became in ("credited", "nothing new") else "warn", role="status")
    return await _view(house, {"find": quote.payment_hash.hex()}, key, said)


async def _view(house: House, query: Mapping[str, str], key: str, said: Html | None) -> View:
    state = query.get("state", "") if query.get("state") in STATES else STATES[0]
    wanted = query.get("find", "").strip()
    asked, whole = {"find": wanted}, None
    if wanted:
        try:
            found = [await purchases.find(house.database, wanted)]
        except PennypostError as error:
            said, found = notice(f"{error}. Nothing here has this payment hash or invoice.", "warn", role="status"), []
    else:
        states = {"open": purchases.OPEN, "all": purchases.EVERY}.get(state, (state.upper(),))
        before = query.get("before", "")
        last = await purchases.find(house.database, before) if before else None
        found = await house.database.read(purchases.page_on, states, last, PAGE)
        asked = {"state": state} | ({"before": before} if before else {})
        whole = partial(_whole, house, states, last)
    rows = [_row(each) for each in found]
    listed = Table("One purchase" if wanted else state.capitalize(), COLUMNS, rows, "None.", query=asked, whole=whole)
    more = None
    if len(rows) == PAGE:
        more = tag("a", "Earlier ones", href=f"{PATH}?state={state}&before={rows[-1]['payment_hash']}", class_="button")
    choice = tag(
        "p",
        *(
            tag(
                "a",
                each.capitalize(),
                href=f"{PATH}?state={each}",
                aria_current="page" if each == state and not wanted else None,
            )
            for each in STATES
        ),
        class_="choice",
    )
    body = [tag("h1", TITLE), said, _search(wanted), choice]
    actions = {number: _ask(key, row) for number, row in enumerate(rows)} if house.mint is not None else None
    body += [table(PATH, "quotes", listed, actions), more]
    data = {"state": state, "quotes": [{name: row[name] for name in COLUMNS} for row in rows]}
    return View(TITLE, data, inside(body), {"quotes": listed})


async def _whole(house: House, states: Sequence[str], last: Quote | None) -> list[Row]:
    """In pages, so that no read holds up others."""
    rows: list[Row] = []
    while len(rows) < FILE:
        found = await house.database.read(purchases.page_on, states, last, min(purchases.PAGE, FILE - len(rows)))
        if not found:
            break
        rows += [_row(each) for each in found]
        last = found[-1]
    return rows


def _row(quote: Quote) -> Row:
    return purchases.described(quote) | {"state": quote.state.lower()}


def _search(wanted: str) -> Html:
    return tag(
        "form",
        tag("label", "“I paid and got nothing”", for_="find"),
        tag(
            "p",
            "The payment hash or the invoice of the payment; the payer’s wallet shows both.",
            id="about",
            class_="soft",
        ),
        tag(
            "div",
            tag(
                "input",
                id="find",
                name="find",
                value=wanted,
                maxlength=4_096,
                aria_describedby="about",
                spellcheck="false",
                autocomplete="off",
            ),
            button("Find it", primary=True),
            class_="buttons",
        ),
        method="get",
        action=PATH,
        class_="panel search",
    )


def _ask(key: str, row: Row) -> Html | None:
    if row["amount_paid"] >= row["amount"]:
        return None
    name = f"Ask the node about {row['payment_hash'][:12]}"
    return form(PATH, key, hidden(find=row["payment_hash"]), button("Ask the node", aria_label=name))
