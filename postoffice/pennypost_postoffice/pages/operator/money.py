"""Balance sheet: what came in, what stamps are out, what lies at the node and at mints elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pennypost_postoffice.foreign.treasury import balances_on
from pennypost_postoffice.pages.markup import Html, inside, tag
from pennypost_postoffice.pages.operator.charts import figure
from pennypost_postoffice.pages.operator.house import House
from pennypost_postoffice.pages.operator.view import Row, Table, View, cards, notice, table, when

PATH = "/operator/money"
TITLE = "Money"
DAYS_SHOWN = 10
PLOTTED = 30
"""Days of the plot."""

KEYSETS: Mapping[str, Any] = {
    "id": ("Keyset", "code"),
    "state": ("State", "text"),
    "signed": ("Signed", "number"),
    "spent": ("Spent", "number"),
    "promotional": ("Given away", "number"),
    "outstanding": ("Outstanding", "number"),
    "final_expiry": ("Worthless after", "time"),
}
DAYS: Mapping[str, Any] = {
    "day": ("Day (UTC)", "day"),
    "settled": ("Received", "number"),
    "sold": ("Sold", "number"),
    "promotional": ("Given away", "number"),
    "signed": ("Signed", "number"),
    "spent": ("Spent", "number"),
    "outstanding": ("Outstanding", "number"),
}
TREASURY: Mapping[str, Any] = {
    "mint": ("Mint", "text"),
    "sat": ("Held", "number"),
    "proofs": ("Proofs", "number"),
    "in_tokens": ("In a token not taken", "number"),
    "under_way": ("Swaps under way", "number"),
    "oldest": ("Oldest since", "time"),
}


async def read(house: House, _query: Mapping[str, str], _key: str) -> View:
    """Raises DatabaseUnavailable."""
    earned: list[Row] = [each._asdict() for each in await house.database.read(balances_on)]
    treasury = {"sat": sum(each["sat"] + each["in_tokens"] for each in earned), "mints": earned}
    tables = {
        "treasury": Table("Treasury: earned at mints elsewhere", TREASURY, earned, "Nothing was earned elsewhere.")
    }
    elsewhere = ("Treasury", _sat(treasury["sat"]), "earned at mints elsewhere, in stamps of theirs")
    if not house.keyring.keysets:
        text = notice("This office has no mint of its own: all it earns is in the treasury.", "good")
        body = inside([tag("h1", TITLE), text, cards(elsewhere), table(PATH, "treasury", tables["treasury"])])
        return View(TITLE, {"books": None, "lightning": None, "treasury": treasury}, body, tables)
    found, at = await house.books.get()
    balance, _ = await house.balance.get()
    rows: list[Row] = [each | {"state": "signs" if each["active"] else "accepted"} for each in found["keysets"]]
    tables = {
        "days": Table("By day", DAYS, list(reversed(found["days"])), shown=DAYS_SHOWN),
        "keysets": Table("By keyset", KEYSETS, rows),
    } | tables
    figures = cards(
        ("Received", _sat(found["settled"]), "paid to invoices of the mint"),
        ("Stamps sold", _sat(found["sold"]), f"{found['unclaimed']:,} more paid, waiting for their buyer"),
        ("Given away", _sat(found["promotional"]), "issued without payment"),
        ("Spent", _sat(found["used"]), "taken by post offices, less their change"),
        ("Outstanding", _sat(found["outstanding"]), "stamps in people’s hands"),
        ("Lightning", *_lightning(house, balance)),
        elsewhere,
    )
    body = [
        tag("h1", TITLE),
        _state(found),
        figures,
        tag("p", "As of ", when(at), " UTC. The whole book is read at most every half minute.", class_="soft"),
        _plot(found["days"]),
        *(table(PATH, name, each) for name, each in tables.items()),
    ]
    data = {"as_of": at, "books": found, "play_money": house.play_money}
    return View(TITLE, data | {"lightning": {"sat": balance}, "treasury": treasury}, inside(body), tables)


def _sat(amount: int) -> str:
    return f"{amount:,} sat"


def _lightning(house: House, balance: int | None) -> tuple[str, str]:
    if house.play_money:
        return "play money", "invoices are not real"
    if house.mint is None:
        return "–", "another process serves the mint"
    if balance is None:
        return "not told", "the node’s credential does not allow to ask, or the node is away"
    return _sat(balance), "what the node holds in its channels"


def _state(found: Mapping[str, Any]) -> Html:
    if found["balanced"]:
        return notice("The books balance: every sat received is a stamp, or waits for its buyer.", "good")
    return tag(
        "div",
        tag("p", tag("strong", "The books do not balance.")),
        tag("ul", *(tag("li", fault) for fault in found["faults"])),
        class_="notice",
        role="alert",
    )


def _plot(days: list[dict[str, Any]]) -> Html | None:
    last = days[-PLOTTED:]
    if len(last) < 2:
        return None
    ends = (last[0]["day"], last[-1]["day"])
    used = [each["outstanding"] for each in last]
    return tag(
        "div",
        figure(
            "Received, sat a day",
            [("Received", [each["settled"] for each in last])],
            ends,
            "{:,.0f}",
            bars=True,
        ),
        figure("Outstanding, sat", [("Outstanding", used)], ends, "{:,.0f}"),
        class_="charts",
    )
