"""Commands that the server extra adds to `pennypost`; found through the entry point group `pennypost.commands`."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Annotated, Any, Literal

import typer

from pennypost.protocol.errors import PennypostError
from pennypost_mint.runtime.settings import PREFIX, RELOADED, Settings, load_settings

Role = Literal["all", "mint", "postoffice"]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, people's talk on stderr.")]

db = typer.Typer(help="The database.", no_args_is_help=True)
play = typer.Typer(help="The play-money Lightning node.", no_args_is_help=True)


def up(
    role: Annotated[Role | None, typer.Option(help="What to serve.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that check signatures.")] = None,
    as_json: Json = False,
) -> None:
    """Serve the mint and the post office; migrates the database first.

    Examples:

      pennypost up
      pennypost up --host 0.0.0.0 --port 80
      PENNYPOST_LIGHTNING=lnd PENNYPOST_LND_URL=https://127.0.0.1:8080 pennypost up
    """
    from pennypost_postoffice.serve import serve

    serve(lambda: load_settings(role=role, host=host, port=port, workers=workers), as_json=as_json)


def settings(as_json: Json = False) -> None:
    """Every setting, its default and what it does.

    Examples:

      pennypost settings
      pennypost settings --json
    """
    rows = settings_table()
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(f"{row['name']}={row['default']}\n    {row['description']}")


def settings_table() -> list[dict[str, Any]]:
    """One row for each setting: name, default, description, whether a running server reloads it (the reference page is
    made from it)."""
    rows: list[dict[str, Any]] = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else str(field.default)
        row = {"name": PREFIX + name.upper(), "default": default, "description": field.description or ""}
        rows.append(row | {"reloaded": name in RELOADED})
    return rows


@db.command("upgrade")
def upgrade(as_json: Json = False) -> None:
    """Bring the database to the newest schema; safe to repeat. `pennypost up` does it too.

    Examples:

      pennypost db upgrade
      PENNYPOST_DATABASE_URL=postgresql://pennypost@localhost/pennypost pennypost db upgrade
    """
    from pennypost_migrations import upgrade as bring_up
    from pennypost_mint.runtime.database import database_url

    chosen = load_settings()
    revision = asyncio.run(bring_up(database_url(chosen.database_url, chosen.data_dir)))
    _say({"revision": revision}, f"The database is at revision {revision}.", as_json)


@play.command("pay")
def pay(
    invoice: Annotated[str, typer.Argument(help="The BOLT11 invoice that the play mint made.")],
    as_json: Json = False,
) -> None:
    """Pay an invoice of the play-money node of this data folder (or database).

    Examples:

      pennypost play pay lnbcrt100n1…
    """
    from pennypost_mint.api import pay_play_invoice
    from pennypost_mint.runtime.database import open_database

    chosen = load_settings()

    async def run() -> int:
        database = open_database(chosen.database_url, chosen.data_dir)
        try:
            return await pay_play_invoice(database, invoice.strip())
        finally:
            await database.close()

    amount = asyncio.run(run())
    _say({"paid": amount, "unit": "sat"}, f"Paid {amount} sat of play money.", as_json)


def _say(result: dict[str, Any], sentence: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result))
    else:
        print(sentence, file=sys.stderr)


__all__ = ["PennypostError", "db", "play", "settings", "up"]
