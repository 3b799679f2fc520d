"""The price editor: what is asked, what another list would change, and setting it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pennypost.protocol.errors import InvalidInput, NotFound
from pennypost.protocol.price import PriceList
from pennypost_postoffice.operate.prices import (
    MAX_BYTES,
    checked,
    edit_on,
    edits_on,
    example,
    kinds_text,
    rules_of,
    set_on,
    toml_of,
)
from pennypost_postoffice.pages.markup import Html, inside, tag
from pennypost_postoffice.pages.operator.house import House
from pennypost_postoffice.pages.operator.view import Row, Table, View, button, form, hidden, notice, span, table, when

PATH = "/operator/prices"
TITLE = "Prices"
DAY = 86_400

EXAMPLES = (
    ("Letter, 1 KiB", 1059, 1_024, None),
    ("Letter, 64 KiB", 1059, 65_536, None),
    ("Letter, kept a year", 1059, 1_024, 360),
    ("Note, 1 KiB", 1, 1_024, None),
    ("Article, 20 KiB", 30_023, 20_480, None),
    ("Profile, 1 KiB", 0, 1_024, None),
    ("Relay list, 1 KiB", 10_002, 1_024, None),
)
"""What prices are tried on: a name, kind, bytes and days."""

RULES: Mapping[str, Any] = {
    "kinds": ("Kinds", "text"),
    "base": ("Sat", "number"),
    "per_kib": ("A KiB more", "number"),
    "per_day": ("A day", "number"),
    "kept": ("Kept", "text"),
    "most": ("At most", "text"),
    "work": ("Bits of work", "number"),
    "work_instead": ("Bits instead", "number"),
}
COMPARED: Mapping[str, Any] = {
    "what": ("Example", "text"),
    "kind": ("Kind", "text"),
    "now": ("Now", "text"),
    "new": ("New", "text"),
    "change": ("", "text"),
}
COSTS: Mapping[str, Any] = {"what": ("Example", "text"), "kind": ("Kind", "text"), "costs": ("Costs", "text")}
EDITS: Mapping[str, Any] = {"number": ("Number", "number"), "since": ("Set", "time"), "what": ("What", "text")}


async def read(house: House, _query: Mapping[str, str], key: str) -> View:
    """Raises NotFound where no post office is served, DatabaseUnavailable."""
    return await _view(house, key, None, None)


async def act(house: House, given: Mapping[str, str], key: str) -> View:
    """`do`: preview or set `toml`, or unset. Raises InvalidInput, NotFound, DatabaseUnavailable."""
    office = house.office
    if office is None:
        raise NotFound
    toml, do = given.get("toml", "").replace("\r\n", "\n"), given.get("do", "")
    if do == "unset":
        await house.database.write(set_on, "", house.now())
        said = "The price file of the settings is asked again."
    else:
        try:
            new = checked(toml)
        except InvalidInput as error:
            return await _view(house, key, notice(f"{error}.", role="alert"), toml)
        if do != "set":
            return await _view(house, key, _preview(house, key, office.policy.prices, new, toml), toml)
        await house.database.write(set_on, toml, house.now())
        said = "These prices are asked from now on, at every process of this office."
    await office.marks_changed()
    return await _view(house, key, notice(said, "good", role="status"), None)


async def _view(house: House, key: str, first: Html | None, draft: str | None) -> View:
    if house.office is None:
        raise NotFound
    prices = house.office.policy.prices
    edit = await house.database.read(edit_on)
    edits = await house.database.read(edits_on)
    rules, now = rules_of(prices), house.now()
    costs: list[Row] = [
        {"what": name, "kind": kind, "costs": _cost(example(prices, kind, size, keep, now))}
        for name, kind, size, keep in EXAMPLES
    ]
    history: list[Row] = [
        {"number": each.number, "since": each.since, "what": "price list" if each.toml else "back to the price file"}
        for each in edits
    ]
    tables = {
        "rules": Table("What is asked", RULES, [_rule(each) for each in rules], "No kind is taken."),
        "examples": Table("Examples", COSTS, costs),
        "edits": Table("Lists set here or by command", EDITS, history, "None: the price file of the settings counts."),
    }
    if edit is None:
        source: list[Any] = ["From the price file of the settings, or the default without one."]
    else:
        source = ["Set ", when(edit.since), " UTC; goes before the price file of the settings."]
    body = [
        tag("h1", TITLE),
        first,
        tag("p", *source, class_="soft"),
        table(PATH, "rules", tables["rules"]),
        _free(prices),
        _editor(key, draft if draft is not None else toml_of(prices), edit is not None),
        table(PATH, "examples", tables["examples"]),
        table(PATH, "edits", tables["edits"]),
    ]
    data = {
        "rules": rules,
        "free_kinds": sorted(prices.free_kinds),
        "set": edit is not None,
        "since": edit.since if edit is not None else None,
        "toml": toml_of(prices),
        "examples": [example(prices, kind, size, keep, now) for _, kind, size, keep in EXAMPLES],
    }
    return View(TITLE, data, inside(body), tables)


def _rule(rule: Mapping[str, Any]) -> Row:
    return dict(rule) | {
        "kinds": kinds_text(rule["kinds"]),
        "kept": span(rule["ttl_default"]),
        "most": span(rule["ttl_max"]),
    }


def _free(prices: PriceList) -> Html:
    kinds = ", ".join(map(str, sorted(prices.free_kinds)))
    return tag("p", f"Kinds without a stamp: {kinds}." if kinds else "Every kind needs a stamp.")


def _cost(found: Mapping[str, Any]) -> str:
    if found["code"] is not None:
        return f"refused ({found['code']})"
    return f"{found['sat']:,} sat" if found["sat"] else "free"


def _preview(house: House, key: str, old: PriceList, new: PriceList, toml: str) -> Html:
    now = house.now()
    rows: list[Row] = []
    dearer = False
    for name, kind, size, keep in EXAMPLES:
        before, after = (example(prices, kind, size, keep, now) for prices in (old, new))
        change = ""
        if before["sat"] is not None and after["sat"] is not None:
            dearer = dearer or after["sat"] > before["sat"]
            change = "dearer" if after["sat"] > before["sat"] else "cheaper" if after["sat"] < before["sat"] else ""
        elif before["code"] != after["code"]:
            change = "taken from now on" if after["code"] is None else "no more taken"
        rows.append({"what": name, "kind": kind, "now": _cost(before), "new": _cost(after), "change": change})
    grace = span(house.settings().price_grace)
    late = f" A lower price of before is honoured for {grace}, since clients read prices once a day." * dearer
    body = Table("Preview", COMPARED, rows)
    titles = tag("tr", *(tag("th", title, scope="col") for title, _ in body.columns.values()))
    lines = [
        tag("tr", *(tag("td", str(row[name])) for name in COMPARED), class_="changed" if row["change"] else None)
        for row in rows
    ]
    shown = tag(
        "div",
        tag("table", tag("thead", titles), tag("tbody", *lines)),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label="Preview",
    )
    return tag(
        "section",
        tag("h2", "Preview"),
        tag(
            "p", "Nothing is changed yet. Which kinds are taken, and for how long mail is kept, changes at once." + late
        ),
        shown,
        form(PATH, key, hidden(do="set", toml=toml), button("Ask these prices", primary=True), class_="buttons"),
        class_="panel preview",
    )


def _editor(key: str, toml: str, is_set: bool) -> Html:
    lines = min(30, toml.count("\n") + 3)
    text = tag(
        "textarea",
        "\n" + toml,
        id="toml",
        name="toml",
        rows=lines,
        spellcheck="false",
        class_="mono",
        maxlength=MAX_BYTES,
        aria_describedby="toml-about",
    )
    about = tag(
        "p",
        "Ordered rules, the first that names a kind counts. Sat, seconds, bits of work (NIP-13).",
        id="toml-about",
        class_="soft",
    )
    change = form(
        PATH,
        key,
        tag("h2", tag("label", "Another list", for_="toml")),
        about,
        text,
        tag("p", button("Preview", primary=True, name="do", value="preview"), class_="buttons"),
    )
    back = form(PATH, key, hidden(do="unset"), button("Back to the price file", plain=True)) if is_set else None
    return tag("section", change, back, class_="panel")
