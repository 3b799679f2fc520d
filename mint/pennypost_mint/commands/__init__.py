"""`pennypost mint …`: what the operator of a mint asks and does; an entry point of the group `pennypost.commands`.

Each command opens the settings' database beside the servers that run on it, does one thing and ends. Results go to
stdout (text, or JSON with --json), what is said to a person to stderr.
"""

from __future__ import annotations

import typer

from pennypost_mint.commands import backups, look, purchases, stamps
from pennypost_mint.commands.seed import seed

mint = typer.Typer(help="The mint: its books, its keysets, its backups.", no_args_is_help=True, rich_markup_mode=None)
for _function in (
    look.info,
    look.keysets,
    purchases.quotes,
    look.report,
    purchases.reconcile,
    stamps.issue,
    stamps.rotate,
    stamps.sunset,
    backups.backup,
    backups.verify_backup,
    backups.restore,
):
    mint.command(_function.__name__.replace("_", "-"))(_function)

mint.add_typer(seed, name="seed")
