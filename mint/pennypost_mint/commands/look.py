"""Commands that look: what the mint is, its keysets, its books."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from pennypost_mint.commands.talk import Json, Progress, run, show, when
from pennypost_mint.runtime.settings import load_settings


def info(as_json: Json = False) -> None:
    """What this mint is: address, Lightning backend, keysets, whether it sells, whether its seed is encrypted.

    Examples:

      pennypost mint info
      pennypost mint info --json
    """
    from pennypost_mint.keysets import standing_on
    from pennypost_mint.last_use import last_use
    from pennypost_mint.operate.opening import opened
    from pennypost_mint.seed import is_sealed, read_text

    settings = load_settings()

    async def work() -> dict[str, Any]:
        async with opened(settings) as database:
            standing = await database.read(standing_on)
            text = read_text(settings.seed_file)
            active = next((row for row in reversed(standing.keysets) if row.active), None)
            used = last_use(settings.data_dir, standing.keysets[0].id) if standing.keysets else None
            return {
                "url": settings.url,
                "name": settings.name,
                "database": database.dialect,
                "lightning": settings.lightning,
                "selling": standing.sunset is None,
                "sunset": standing.sunset,
                "keysets": len(standing.keysets),
                "active_keyset": active.id if active else None,
                "active_final_expiry": active.final_expiry if active else None,
                "keyset_version": settings.keyset_version,
                "seed": "missing" if text is None else "encrypted" if is_sealed(text) else "in clear",
                "last_use": used,
            }

    found = run(work())
    lines = [
        f"{found['name']} at {found['url']}, {found['database']}, Lightning by {found['lightning']}",
        "sells stamps" if found["selling"] else f"sells no more since {when(found['sunset'])}",
        f"{found['keysets']} keysets; {found['active_keyset']} signs",
        f"seed: {found['seed']}",
    ]
    if found["active_final_expiry"]:
        lines.append(f"the active keyset signs nothing after {when(found['active_final_expiry'])}: rotate well before")
    if found["last_use"]:
        lines.append(f"last stamp taken or made by this data folder's server: {when(found['last_use'])}")
    show(found, "\n".join(lines), as_json)


def keysets(as_json: Json = False) -> None:
    """The keysets, in the order they were made.

    Examples:

      pennypost mint keysets
      pennypost mint keysets --json
    """
    from pennypost_mint.keysets import standing_on
    from pennypost_mint.operate.opening import opened

    async def work() -> list[dict[str, Any]]:
        async with opened(load_settings()) as database:
            return [row._asdict() for row in (await database.read(standing_on)).keysets]

    found = run(work())
    lines = [
        f"{row['id']}  {row['unit']}  {'signs' if row['active'] else 'accepted'}  made {when(row['created_at'])}"
        + (f"  worthless after {when(row['final_expiry'])}" if row["final_expiry"] else "")
        for row in found
    ]
    show({"keysets": found}, "\n".join(lines), as_json)


def report(
    days: Annotated[int, typer.Option(min=0, help="How many of the last days to list; 0: all.")] = 30,
    ask_node: Annotated[
        bool, typer.Option("--ask-node", help="Hold every quote against what the Lightning node says it received.")
    ] = False,
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="With --ask-node: only quotes made since this day (UTC)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """The books: received, sold, given away, spent, outstanding, by keyset and by day; exit code 13 when they are off.

    Received - sold - unclaimed must be 0, where unclaimed is what was paid and waits for its buyer: that is no error.
    Outstanding is what was signed less what was spent. Used is what post offices took: sold + given away - outstanding.
    What was received is what this mint credited. With --ask-node the node is asked about each quote, paid or not: one
    look-up a quote, so it takes its time. Exit code 7 when it did not answer about all of them.

    Examples:

      pennypost mint report
      pennypost mint report --days 0 --json
      pennypost mint report --ask-node --since 2026-11-01
    """
    from pennypost.protocol.errors import BooksOff, LightningUnavailable
    from pennypost_mint.lightning.backends import open_lightning
    from pennypost_mint.operate import books
    from pennypost_mint.operate.audit import Audit, audit
    from pennypost_mint.operate.opening import opened, snapshot

    if since is not None and not ask_node:
        raise typer.BadParameter("needs --ask-node", param_hint="--since")
    settings = load_settings()
    progress = Progress("asked the node about", as_json)

    async def work() -> tuple[books.Books, Audit | None]:
        async with opened(settings) as database:
            found = await snapshot(database, books.books_on)
            if not ask_node:
                return found, None
            lightning = open_lightning(settings, database)
            start = 0 if since is None else int(since.replace(tzinfo=UTC).timestamp())
            try:
                return found, await audit(database, lightning, start, lambda done: progress.show(done, 0))
            finally:
                await lightning.close()

    found, node = run(work())
    progress.end()
    faults = found.faults + (node.faults if node else [])
    result = books.report(found, days)
    if node:
        result |= {"balanced": not faults, "faults": faults, "node": node.as_json()}
    lines = [f"{name:12}{result[name]:>14} sat" for name in books.TOTALS]
    if node:
        lines += ["", f"the node, of {node.asked} quotes", f"{'settled':12}{node.settled:>14} sat"]
        lines += [f"{'credited':12}{node.credited:>14} sat", f"{'difference':12}{node.difference:>14} sat"]
        lines += [f"{'too little':12}{node.too_little:>14} sat, of quotes that wait"] if node.too_little else []
        lines += [
            f"  {each['payment_hash']}  credited {each['credited']}  settled {each['settled']}" for each in node.odd
        ]
    lines += ["", f"{'keyset':18}{'signed':>14}{'spent':>14}{'outstanding':>14}"]
    lines += [
        f"{row['id'][:16]:18}{row['signed']:>14}{row['spent']:>14}{row['outstanding']:>14}" for row in result["keysets"]
    ]
    lines += ["", f"{'day':12}{'received':>10}{'sold':>10}{'given':>10}{'signed':>12}{'spent':>12}{'outstanding':>14}"]
    lines += [
        f"{row['day']:12}{row['settled']:>10}{row['sold']:>10}{row['promotional']:>10}{row['signed']:>12}"
        f"{row['spent']:>12}{row['outstanding']:>14}"
        for row in result["days"]
    ]
    show(result, "\n".join(lines), as_json)
    if faults:
        raise BooksOff("; ".join(faults))
    if node and node.no_answer:
        raise LightningUnavailable
