"""`pennypost office …`: an entry point of the group `pennypost.commands`.

Each command opens the settings' database beside the servers that run on it, does one thing and ends.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from pennypost.protocol.errors import InvalidInput, OfficeNotStarted
from pennypost_mint.runtime.settings import Settings, load_settings
from pennypost_postoffice.foreign.commands import treasury
from pennypost_postoffice.operate.seed import seed
from pennypost_postoffice.operate.talk import Progress, day_text, kinds_of, say, seconds_of, show

if TYPE_CHECKING:
    from pennypost.protocol.price import PriceList
    from pennypost_mint.runtime.database import Database
    from pennypost_postoffice.operate.removal import Selection

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, people's talk on stderr.")]
Author = Annotated[list[str] | None, typer.Option(metavar="KEY", help="Only of this author (npub or hex); repeatable.")]
Kind = Annotated[str | None, typer.Option(metavar="KIND[-KIND]", help="Only this kind, or this range of kinds.")]
Since = Annotated[str | None, typer.Option(metavar="TIME", help="Dated then or later: 2026-12-31, or Unix seconds.")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Dated then or earlier.")]
What = Annotated[Literal["pubkey", "event", "kind"], typer.Argument(help="What is banned.")]
Value = Annotated[str, typer.Argument(metavar="KEY|ID|KIND", help="npub or hex; note or hex; a number.")]
T = TypeVar("T")

DAY = 86_400

office = typer.Typer(help="The post office: its mail, prices and bans.", no_args_is_help=True, rich_markup_mode=None)
office.add_typer(treasury, name="treasury")
office.add_typer(seed, name="seed")


@office.command()
def info(as_json: Json = False) -> None:
    """What this post office is, and what it holds. Reads the row of every event: some seconds for a million.

    Examples:

      pennypost office info
      pennypost office info --json
    """
    from pennypost_postoffice.operate.books import stock_on

    settings = load_settings()

    async def run(database: Database) -> dict[str, Any]:
        stock = await database.read(stock_on, int(time.time()))
        known = {"url": settings.url, "name": settings.name, "database": database.dialect}
        return known | {"mints": settings.mints} | stock

    found = _run(settings, run)
    lines = [
        f"{found['name']} at {found['url']}, {found['database']}",
        f"{found['events']} events of {found['bytes']} bytes, {found['expired']} of them over and not yet swept",
        f"{found['held']} held, {found['tombstones']} tombstones, {found['bans']} bans, feed at {found['feed']}",
        *(f"  kind {kind}: {count}" for kind, count in found["kinds"].items()),
    ]
    show(found, "\n".join(lines), as_json)


@office.command()
def report(
    days: Annotated[int, typer.Option(min=1, max=400, help="Days, the last one today (UTC).")] = 7,
    as_json: Json = False,
) -> None:
    """Events, stamps and sat by day and kind; refusals by code. Written every ten seconds by the servers.

    Examples:

      pennypost office report
      pennypost office report --days 30 --json
    """
    from pennypost_postoffice.operate.books import report_on

    today = int(time.time()) // DAY

    async def run(database: Database) -> list[dict[str, Any]]:
        return await database.read(report_on, today - days + 1, today)

    rows = _run(load_settings(), run)
    lines: list[str] = []
    for row in rows:
        lines.append(f"{row['day']}  {row['events']} events, {row['sat']} sat")
        lines += [f"    kind {kind}: {sums['events']}, {sums['sat']} sat" for kind, sums in row["kinds"].items()]
        lines += [f"    refused, {code}: {count}" for code, count in row["refused"].items()]
    show({"days": rows}, "\n".join(lines) or "Nothing was stored or refused.", as_json)


@office.command()
def prices(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A price file; without one, what the office asks.")
    ] = None,
    kind: Annotated[int, typer.Option(min=0, max=65_535, help="Kind of the example.")] = 1059,
    size: Annotated[int, typer.Option(min=1, help="Bytes of the example.")] = 1_024,
    keep: Annotated[int | None, typer.Option(min=1, help="Days the example asks to be kept.")] = None,
    use: Annotated[bool, typer.Option("--set", help="Ask these from now on, at every running server.")] = False,
    unset: Annotated[bool, typer.Option("--unset", help="Ask again what the settings' price file says.")] = False,
    as_json: Json = False,
) -> None:
    """The prices, checked, and what an example costs by them. With a FILE alone it asks no database, changes nothing.

    A list that was set, here or on the operator's pages, goes before the price file of the settings until it is unset.

    Examples:

      pennypost office prices
      pennypost office prices new.toml --kind 1 --size 5000 --keep 30
      pennypost office prices new.toml --set
    """
    from pennypost_postoffice.operate import prices as asking

    settings, now = load_settings(), int(time.time())
    if (unset and (use or file is not None)) or (use and file is None):
        raise InvalidInput("a file with --set, or --unset alone")

    async def run(database: Database) -> tuple[PriceList, bool]:
        if use:
            text = asking.file_text(file)
            asking.checked(text)
            await database.write(asking.set_on, text, now)
        elif unset:
            await database.write(asking.set_on, "", now)
        edit = await asking.edited(database)
        return (asking.load_prices(settings.price_file), False) if edit is None else (edit, True)

    if file is not None and not use:
        found, is_set = asking.load_prices(file), False
    else:
        try:
            found, is_set = _run(settings, run)
        except OfficeNotStarted:
            if use or unset:
                raise
            found, is_set = asking.load_prices(settings.price_file), False
    rules = asking.rules_of(found)
    example = asking.example(found, kind, size, keep, now)
    free = sorted(found.free_kinds)
    lines = [
        *(
            f"{asking.kinds_text(each['kinds'])}: {each['base']} sat + {each['per_kib']}/KiB + {each['per_day']}/day, "
            f"kept {each['ttl_default'] // DAY} days, at most {each['ttl_max'] // DAY}"
            for each in rules
        ),
        f"free: {', '.join(map(str, free)) or 'nothing'}",
        f"kind {kind}, {size} bytes, kept {example['days']} days: {example['sat']} sat"
        if example["code"] is None
        else f"kind {kind}, {size} bytes: refused [{example['code']}]",
    ]
    if is_set:
        lines.append("These were set while the office ran and go before the price file (--unset takes them away).")
    show({"rules": rules, "free_kinds": free, "example": example, "set": is_set}, "\n".join(lines), as_json)


@office.command()
def ban(
    what: What,
    value: Value,
    reason: Annotated[str, typer.Option(help="For you alone.")] = "",
    as_json: Json = False,
) -> None:
    """Take nothing of an author, an event or a kind from now on; every running server knows it in a moment.

    A banned event is deleted. Other mail that is stored stays: see `pennypost office delete`.

    Examples:

      pennypost office ban pubkey npub1… --reason spam
      pennypost office ban event note1…
      pennypost office ban kind 1984
    """
    from pennypost_postoffice.bans import Ban
    from pennypost_postoffice.operate.banning import forbid_on, value_of

    name = value_of(what, value)

    async def run(database: Database) -> int:
        return await database.write(forbid_on, Ban(what, name, reason, int(time.time())))

    deleted = _run(load_settings(), run)
    show({"banned": what, "value": name, "deleted": deleted}, f"Banned {what} {name}.", as_json)


@office.command()
def unban(what: What, value: Value, as_json: Json = False) -> None:
    """Take a ban away. A banned event was deleted; now it may be posted again.

    Examples:

      pennypost office unban pubkey npub1…
    """
    from pennypost_postoffice.operate.banning import permit_on, value_of

    name = value_of(what, value)

    async def run(database: Database) -> bool:
        return await database.write(permit_on, what, name)

    gone = _run(load_settings(), run)
    show({"unbanned": gone, "value": name}, "Taken away." if gone else "There was no such ban.", as_json)


@office.command()
def bans(as_json: Json = False) -> None:
    """All bans, the oldest first.

    Examples:

      pennypost office bans --json
    """
    from pennypost_postoffice.bans import bans_on

    async def run(database: Database) -> list[Any]:
        return await database.read(bans_on)

    found = _run(load_settings(), run)
    lines = [f"{day_text(each.since // DAY)}  {each.subject} {each.value}  {each.reason}".rstrip() for each in found]
    show({"bans": [each._asdict() for each in found]}, "\n".join(lines) or "None.", as_json)


@office.command()
def delete(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]…", help="Events by id (hex or note).")] = None,
    author: Author = None,
    kind: Kind = None,
    since: Since = None,
    until: Until = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, only say what would be deleted.")] = False,
    as_json: Json = False,
) -> None:
    """Delete stored mail; tombstones keep it out until its time is over. Says what it would do unless `--yes` is given.

    All conditions must hold. Held mail is found like any other, and no release brings it back.

    Examples:

      pennypost office delete --author npub1… --since 2026-01-01
      pennypost office delete 5c83…e1 --yes
    """
    from pennypost_postoffice.operate.removal import count_on, delete_on

    chosen = _selection(ids, author, kind, since, until)
    if chosen.is_everything:
        raise InvalidInput("name what is to be deleted: ids, an author, a kind or a time")
    progress = Progress("events", as_json)

    async def run(database: Database) -> tuple[dict[int, int], int]:
        counts = await database.read(count_on, chosen)
        gone = 0
        while yes and (step := await database.write(delete_on, chosen)):
            gone += step
            progress.show(gone, gone / max(1, sum(counts.values())))
        if gone:
            await database.checkpoint()
        return counts, gone

    counts, gone = _run(load_settings(), run)
    progress.end()
    lines = [f"kind {number}: {count}" for number, count in counts.items()]
    lines.append(f"Deleted {gone} events." if yes else f"{sum(counts.values())} events would be deleted; add --yes.")
    result = {"found": {str(number): count for number, count in counts.items()}, "deleted": gone}
    show(result, "\n".join(lines), as_json)


@office.command("export")
def export_mail(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A new file, one that was interrupted, or stdout.")],
    author: Author = None,
    kind: Kind = None,
    since: Since = None,
    until: Until = None,
    as_json: Json = False,
) -> None:
    """Write stored mail into a file, a JSON event a line; run it again and it goes on where it was interrupted.

    What is held is left out: its payment has not been made.

    Examples:

      pennypost office export mail.jsonl
      pennypost office export - --kind 0 | gzip > profiles.jsonl.gz
    """
    from pennypost_postoffice.operate import mailbag

    chosen = _selection(None, author, kind, since, until)
    progress = Progress("events", as_json)
    now = int(time.time())

    async def run(database: Database) -> int:
        if file == "-":
            return await mailbag.pour(database, sys.stdout.buffer, chosen, now)
        return await mailbag.export(database, Path(file), chosen, now, progress.show)

    count = _run(load_settings(), run)
    progress.end()
    if file == "-":
        say(f"{count} events")
    else:
        show({"exported": count}, f"{count} events into {file}.", as_json)


@office.command("import")
def import_mail(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A file with a JSON event a line, or stdin.")],
    as_json: Json = False,
) -> None:
    """Store mail of a file without stamps; run it again and it goes on where it was interrupted.

    Signatures are checked. What was deleted, is banned, is over or is replaced here stays out.

    Examples:

      pennypost office import mail.jsonl
      zcat other.jsonl.gz | pennypost office import - --json
    """
    from pennypost.protocol.errors import FileUnusable
    from pennypost_postoffice.bans import Bans, bans_on
    from pennypost_postoffice.operate import mailbag
    from pennypost_postoffice.operate.prices import asked

    settings = load_settings()
    progress = Progress("lines", as_json)

    async def run(database: Database) -> dict[str, int]:
        banned = Bans(await database.read(bans_on))
        prices = await asked(database, settings.price_file)
        importer = mailbag.Importer(database, prices, banned, lambda: int(time.time()))
        if file == "-":
            await mailbag.bring(importer, sys.stdin.buffer, None, progress.show)
        else:
            try:
                source = open(file, "rb")  # noqa: SIM115, ASYNC230 - closed below; nothing else runs here
            except OSError:
                raise FileUnusable("it cannot be read") from None
            with source:
                await mailbag.bring(importer, source, Path(file), progress.show)
        return dict(importer.counts)

    counts = _run(settings, run)
    progress.end()
    stored = counts.pop("stored", 0)
    lines = [f"{stored} events stored", *(f"{count} not: {code}" for code, count in sorted(counts.items()) if count)]
    result = {"stored": stored, "passed_over": {code: count for code, count in counts.items() if count}}
    show(result, "\n".join(lines), as_json)


@office.command()
def login(
    end: Annotated[bool, typer.Option("--end-all", help="Sign everybody out and void all links, instead.")] = False,
    as_json: Json = False,
) -> None:
    """A link that signs a browser in to the operator's pages: once, within ten minutes. Whoever has it may use it.

    Examples:

      pennypost office login
      pennypost office login --end-all
    """
    from pennypost_postoffice.pages.operator.gate import LOGIN, is_served
    from pennypost_postoffice.pages.operator.sign_in import LINK_SECONDS, end_all_on, make_link_on

    settings, now = load_settings(), int(time.time())

    async def run(database: Database) -> Any:
        return await (database.write(end_all_on) if end else database.write(make_link_on, now))

    found = _run(settings, run)
    if end:
        show({"ended": found}, "Everybody is signed out, and no link is good any more.", as_json)
        return
    if not is_served(settings):
        say("These settings do not serve the operator's pages: see PENNYPOST_OPERATOR_PAGES.")
    url = f"{settings.url}{LOGIN}?link={found}"
    show({"url": url, "until": now + LINK_SECONDS}, url, as_json)


@office.command()
def reload(as_json: Json = False) -> None:
    """Make every running server of this office read its settings and prices again; its log says what came of it.

    Examples:

      pennypost office prices new.toml && mv new.toml prices.toml && pennypost office reload
    """
    from pennypost_postoffice.marks import RELOAD, touch_on

    async def run(database: Database) -> None:
        await database.write(touch_on, RELOAD)

    _run(load_settings(), run)
    show({"asked": True}, "The servers read their settings again.", as_json)


def _selection(
    ids: list[str] | None, authors: list[str] | None, kind: str | None, since: str | None, until: str | None
) -> Selection:
    from pennypost_postoffice.operate.banning import value_of
    from pennypost_postoffice.operate.removal import Selection

    return Selection(
        tuple(value_of("event", each) for each in ids or ()),
        tuple(value_of("pubkey", each) for each in authors or ()),
        kinds_of(kind),
        seconds_of(since),
        seconds_of(until),
    )


def _run(settings: Settings, work: Callable[[Database], Awaitable[T]]) -> T:
    from pennypost_postoffice.operate.opening import opened

    async def session() -> T:
        async with opened(settings) as database:
            return await work(database)

    return asyncio.run(session())
