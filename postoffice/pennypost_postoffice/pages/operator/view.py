"""What a page is made of: facts, tables that are also files, forms that carry the session's key."""

from __future__ import annotations

import csv
import io
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlencode

import msgspec

from pennypost_postoffice.pages.markup import Html, Inside, tag

Kind = Literal["text", "number", "time", "day", "code"]
Row = Mapping[str, Any]

SHOWN = 200
"""Most rows of a table on a page, unless it says another number; its files have all of them."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Table:
    """Rows by the names of their `columns`, each a title and a kind; `time` is in Unix seconds, None is empty.

    `query`: what its page was asked for, for the links to its files. `whole`: reads the rows of the files, where the
    page has read fewer.
    """

    title: str
    columns: Mapping[str, tuple[str, Kind]]
    rows: Sequence[Row]
    empty: str = "Nothing yet."
    shown: int = SHOWN
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    whole: Callable[[], Awaitable[Sequence[Row]]] | None = None

    async def complete(self) -> Table:
        """With the rows of its files. Raises DatabaseUnavailable."""
        return self if self.whole is None else replace(self, rows=await self.whole(), whole=None)

    def json(self) -> bytes:
        """The rows as a JSON array."""
        return msgspec.json.encode([{name: row[name] for name in self.columns} for row in self.rows])

    def csv(self) -> bytes:
        """The rows as CSV (RFC 4180); what a spreadsheet would take for a formula is text."""
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(self.columns)
        for row in self.rows:
            writer.writerow([_cell(row[name]) for name in self.columns])
        return out.getvalue().encode()


@dataclass(frozen=True)
class View:
    """A page: its title, what its `.json` says, its tables by name, and its markup."""

    title: str
    data: Mapping[str, Any]
    main: Html
    tables: Mapping[str, Table] = field(default_factory=dict[str, Table])


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return "" if value is None else value


def table(path: str, name: str, what: Table, actions: Mapping[int, Html | None] | None = None) -> Html:
    """A table with its title and its files; `actions`: what stands at the end of a row, by its number."""
    asked = f"?{urlencode(what.query)}" if what.query else ""
    files = tag(
        "span",
        *(tag("a", each.upper(), href=f"{path}/{name}.{each}{asked}", download=True) for each in ("csv", "json")),
        class_="files",
    )
    head = tag("div", tag("h2", what.title, id=name), files, class_="title")
    if not what.rows:
        return tag("section", head, tag("p", what.empty, class_="soft"), class_="panel")
    titles = [tag("th", title, scope="col", class_=_class(kind)) for title, kind in what.columns.values()]
    if actions is not None:
        titles.append(tag("th", tag("span", "Actions", class_="visually-hidden"), scope="col"))
    rows = [
        tag("tr", *(_data(row[key], kind) for key, (_, kind) in what.columns.items()), _action(actions, number))
        for number, row in enumerate(what.rows[: what.shown])
    ]
    more = len(what.rows) - what.shown
    note = tag("p", f"{more:,} more rows are in the files.", class_="soft") if more > 0 else None
    body = tag("table", tag("thead", tag("tr", *titles)), tag("tbody", *rows), aria_labelledby=name)
    scroll = tag("div", body, class_="scroll", tabindex="0", role="region", aria_labelledby=name)
    return tag("section", head, scroll, note, class_="panel")


def _action(actions: Mapping[int, Html | None] | None, number: int) -> Html | None:
    return None if actions is None else tag("td", actions.get(number), class_="action")


def _class(kind: Kind) -> str | None:
    return kind if kind in ("number", "day") else None


def _data(value: Any, kind: Kind) -> Html:
    if value is None:
        return tag("td", "–", class_=_class(kind))
    if kind == "time":
        return tag("td", when(value))
    if kind == "code":
        return tag("td", tag("code", short(str(value)), title=str(value)))
    if kind == "number" and isinstance(value, int | float):
        return tag("td", f"{value:,}", class_="number")
    return tag("td", str(value), class_=_class(kind))


def short(text: str) -> str:
    """The beginning and the end of a key, id or hash."""
    return text if len(text) <= 24 else f"{text[:12]}…{text[-6:]}"


def when(seconds: float) -> Html:
    """A time as people read it, in UTC."""
    at = datetime.fromtimestamp(seconds, UTC)
    return tag("time", at.strftime("%Y-%m-%d %H:%M"), datetime=at.strftime("%Y-%m-%dT%H:%M:%SZ"))


def span(seconds: float) -> str:
    """A length of time in words."""
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= size:
            count = round(seconds / size)
            return f"{count} {unit}{'s' * (count != 1)}"
    return f"{round(seconds)} seconds"


def size(count: float) -> str:
    """Bytes in words."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1_024:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1_024
    return f"{count:,.1f} TiB"


def cards(*each: tuple[str, str, str]) -> Html:
    """Figures in a row: a label, the figure, and what it means."""
    return tag(
        "dl",
        *(
            tag("div", tag("dt", label), tag("dd", figure, class_="figure"), tag("dd", about), class_="card")
            for label, figure, about in each
        ),
        class_="cards",
    )


def notice(what: Inside, kind: str = "", **more: str) -> Html:
    """Something to be seen first; `kind`: good, warn, or nothing for bad news."""
    return tag("div", tag("p", what), class_=f"notice {kind}".strip(), **more)


def form(path: str, key: str, *what: Inside, class_: str | None = None) -> Html:
    """A form that is sent to `path` with the session's key."""
    return tag("form", hidden(key=key), *what, method="post", action=path, class_=class_)


def hidden(**values: str) -> Html:
    """Fields that go with a form unseen."""
    return Html("".join(tag("input", type="hidden", name=name, value=value) for name, value in values.items()))


def button(text: str, *, primary: bool = False, plain: bool = False, **more: str) -> Html:
    """A button that sends its form."""
    look = "primary" if primary else "plain" if plain else None
    return tag("button", text, type="submit", class_=look, **more)
