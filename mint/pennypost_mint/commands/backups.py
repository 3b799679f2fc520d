"""Commands about backups: made, looked through, put back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pennypost_mint.commands.talk import Json, Progress, run, say, show, when
from pennypost_mint.runtime.settings import load_settings


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file; an existing one is not overwritten.")],
    as_json: Json = False,
) -> None:
    """Write the mint's books into a file, while it runs. An encrypted seed goes with it; one in clear never does.

    Mail is not in it. The same file restores into SQLite and into PostgreSQL.

    Examples:

      pennypost mint backup mint-$(date +%F).backup
    """
    from pennypost_mint.operate import backup as backups
    from pennypost_mint.operate.opening import opened

    settings = load_settings()
    progress = Progress("rows written", as_json)

    async def work() -> Any:
        async with opened(settings) as database:
            return await backups.backup(database, settings, file, progress.show)

    head = run(work())
    progress.end()
    if head.seed is None:
        say(
            "The seed is NOT in this backup, for its file is not encrypted: keep a copy of it elsewhere, or the stamps "
            "sold are worthless after a loss. `pennypost mint seed encrypt` changes that."
        )
    else:
        say("The encrypted seed is in this backup: keep its passphrase elsewhere.")
    rows = sum(table.rows for table in head.tables.values())
    result = {"mint": head.mint, "made_at": head.made_at, "rows": rows, "seed": head.seed is not None}
    show(result, f"{rows} rows of the mint as of {when(head.made_at)}", as_json)


def verify_backup(file: Annotated[Path, typer.Argument(metavar="FILE")], as_json: Json = False) -> None:
    """Read a whole backup: is it complete and undamaged, and what is in it? Needs neither database nor seed.

    Examples:

      pennypost mint verify-backup mint-2026-11-21.backup --json
    """
    from pennypost_mint.operate.backup import verify

    progress = Progress("rows read", as_json)
    found = verify(file, progress.show)
    progress.end()
    show(_contents(found), _sentence(found), as_json)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    accept: Annotated[
        bool,
        typer.Option("--accept-double-spending", help="Also a backup older than the last stamp this mint took."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Put a backup into a new, empty database, and its encrypted seed where the seed file is missing.

    Refused for a backup made before this mint last took or sold a stamp, as far as the data folder knows (the file
    mint.last-use): what was spent since could be spent again, what was bought and paid since is not known any more.

    Examples:

      pennypost db upgrade && pennypost mint restore mint-2026-11-21.backup
    """
    from pennypost_mint.last_use import last_use
    from pennypost_mint.operate.backup import restore as put_back
    from pennypost_mint.operate.opening import opened

    settings = load_settings()
    progress = Progress("rows", as_json)

    async def work() -> Any:
        async with opened(settings) as database:
            return await put_back(database, settings, file, progress.show, accept_double_spending=accept)

    found = run(work())
    progress.end()
    used = last_use(settings.data_dir, found.head.mint)
    if used is None:
        say(
            "Nothing in this data folder says when this mint last took a stamp. If it went on after "
            f"{when(found.head.made_at)}, stamps spent since can be spent again."
        )
    elif used > found.head.made_at:
        say(f"Stamps taken between {when(found.head.made_at)} and {when(used)} can be spent again.")
    show(_contents(found), _sentence(found), as_json)


def _contents(found: Any) -> dict[str, Any]:
    return {
        "mint": found.head.mint,
        "made_at": found.head.made_at,
        "program": found.head.program,
        "rows": {name: table.rows for name, table in found.head.tables.items()},
        "keysets": len(found.keysets),
        "signed": found.signed,
        "spent": found.spent,
        "outstanding": found.outstanding,
        "seed": found.head.seed is not None,
        "unit": "sat",
    }


def _sentence(found: Any) -> str:
    return (
        f"A whole backup of {when(found.head.made_at)}: {len(found.keysets)} keysets, {found.outstanding} sat "
        f"outstanding, the seed {'encrypted in it' if found.head.seed else 'not in it'}."
    )
