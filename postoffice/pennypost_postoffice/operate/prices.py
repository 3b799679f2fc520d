"""The prices that an office asks: the list that its operator set while it ran, else the price file of the settings.

    pennypost office prices FILE --set, operator's page ─▶ set_on ─▶ mark ─▶ each process reads edit_on ─▶ policy

The last row of `price_edits` counts, unless it is empty: then the file does again. The rows before it say what was
asked when, by whoever looks into them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, insert, select

from pennypost.protocol.errors import ConfigurationError, InvalidInput, PennypostError
from pennypost.protocol.event import Event
from pennypost.protocol.price import PriceList, parse_prices, postage
from pennypost_mint.runtime.database import Database
from pennypost_postoffice.marks import PRICES, touch_on
from pennypost_postoffice.tables import price_edits

DAY = 86_400

MAX_BYTES = 16_384
"""Bytes of a price list that is set; a rule has some 150."""

KEPT = 100
"""Lists remembered."""

_c = price_edits.c


class Edit(NamedTuple):
    """A price list (TOML) that was set at `since` (Unix seconds); an empty one gives the price file back."""

    number: int
    toml: str
    since: int


def edit_on(connection: Connection) -> Edit | None:
    """The list that goes before the price file; None where none does."""
    row = connection.execute(select(_c.number, _c.toml, _c.since).order_by(_c.number.desc()).limit(1)).first()
    return Edit(*row) if row is not None and row.toml else None


def edits_on(connection: Connection) -> list[Edit]:
    """The lists that were set, the newest first."""
    rows = connection.execute(select(_c.number, _c.toml, _c.since).order_by(_c.number.desc()).limit(KEPT))
    return [Edit(*row) for row in rows]


def set_on(connection: Connection, toml: str, now: int) -> None:
    """Asks these prices at every process; "" gives the price file back. `toml` was read by `checked`."""
    # the mark comes first: whoever else sets prices waits at its row
    touch_on(connection, PRICES)
    last = connection.execute(select(func.max(_c.number))).scalar() or 0
    connection.execute(insert(price_edits).values(number=last + 1, toml=toml, since=now))
    connection.execute(delete(price_edits).where(_c.number <= last + 1 - KEPT))


def checked(toml: str) -> PriceList:
    """The list that this text is. Raises InvalidInput, which names what is wrong with it."""
    if not toml.strip() or len(toml.encode(errors="replace")) > MAX_BYTES or "\0" in toml:
        raise InvalidInput(f"a price list of at most {MAX_BYTES} bytes")
    try:
        return parse_prices(toml)
    except ConfigurationError as error:
        raise InvalidInput(error.detail) from None


def toml_of(prices: PriceList) -> str:
    """The price file that reads as these."""
    lines = [f"free_kinds = {sorted(prices.free_kinds)}"]
    for rule in rules_of(prices):
        kinds = rule.pop("kinds")
        lines += ["", "[[rule]]"]
        if kinds is not None:
            named = ", ".join(str(first) if first == last else f'"{first}-{last}"' for first, last in kinds)
            lines.append(f"kinds = [{named}]")
        lines += [f"{name} = {value}" for name, value in rule.items()]
    return "\n".join(lines) + "\n"


def load_prices(path: Path | None) -> PriceList:
    """The price list of a file; without one, the default. Raises ConfigurationError."""
    return parse_prices(file_text(path)) if path is not None else PriceList()


def file_text(path: Path | None) -> str:
    """A price file as it is written; "" where there is none. Raises ConfigurationError."""
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError("PENNYPOST_PRICE_FILE names a file that cannot be read") from None


async def edited(database: Database) -> PriceList | None:
    """The list that was set while the office ran, if any. Raises ConfigurationError, DatabaseUnavailable."""
    found = await database.read(edit_on)
    return None if found is None else parse_prices(found.toml)


async def asked(database: Database, path: Path | None) -> PriceList:
    """What an office with this price file asks. Raises ConfigurationError, DatabaseUnavailable."""
    found = await edited(database)
    return load_prices(path) if found is None else found


def rules_of(prices: PriceList) -> list[dict[str, Any]]:
    """Each rule as commands and pages show it: `kinds` as pairs of first and last (None: every kind), sat, seconds,
    bits of work."""
    names = ("base", "per_kib", "per_day", "ttl_default", "ttl_max", "work", "work_instead")
    return [
        {"kinds": None if rule.kinds is None else [[span[0], span[-1]] for span in rule.kinds]}
        | {name: getattr(rule, name) for name in names}
        for rule in prices.rules
    ]


def kinds_text(kinds: list[list[int]] | None) -> str:
    """`every kind`, or `kinds 1, 30000-39999`."""
    if kinds is None:
        return "every kind"
    return "kinds " + ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in kinds)


def example(prices: PriceList, kind: int, size: int, keep: int | None, now: int) -> dict[str, Any]:
    """What an event of `size` bytes costs that is made `now` (Unix seconds) and asks to be kept for `keep` days."""
    tags = [] if keep is None else [["expiration", str(now + keep * DAY)]]
    event = Event("0" * 64, "0" * 64, now, kind, tags, "", "0" * 128)
    try:
        cost = postage(event, size, now, prices)
    except PennypostError as error:
        return {"kind": kind, "bytes": size, "days": keep, "sat": None, "code": error.code}
    return {"kind": kind, "bytes": size, "days": (cost.keep_until - now) // DAY, "sat": cost.sat, "code": None}
