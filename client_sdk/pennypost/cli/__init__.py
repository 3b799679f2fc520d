"""The command line.

    main ▶ root options ▶ keys · wallet · send · inbox · outbox · who · contacts · channel · pay · offer
                          · buy · notice · doctor
                          and, from entry points, the server's

Results on stdout (text, or JSON lines with --json), people's talk on stderr, an error as a sentence with its remedy and
an exit code from one table (exit_codes.py).
"""

from __future__ import annotations

import json
import os
import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from pennypost.cli import channel, contacts, keys, notice, offer, pay, session, wallet
from pennypost.cli.completion import completion
from pennypost.cli.doctor import doctor
from pennypost.cli.exit_codes import INTERRUPTED, OTHER, TABLE, exit_code
from pennypost.cli.mail import inbox, send
from pennypost.cli.outbox import outbox
from pennypost.cli.plugins import Command, Commands
from pennypost.cli.talk import Defaults, HomeOption, JsonOption, MintOption, OfficeOption, explain
from pennypost.cli.who import who
from pennypost.protocol.errors import PennypostError

__all__ = ["app", "main"]

app = typer.Typer(
    cls=Commands,
    help="Letters with a stamp on them: keys, stamps, mail, and with the server part a mint and a post office.",
    epilog="Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in TABLE) + ".",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(keys.app, name="keys")
app.add_typer(wallet.app, name="wallet")
app.add_typer(channel.app, name="channel")
app.add_typer(session.app, name="session")
app.command("send", cls=Command)(send)
app.command("inbox", cls=Command)(inbox)
app.command("outbox", cls=Command)(outbox)
app.command("who", cls=Command)(who)
app.add_typer(contacts.app, name="contacts")
app.add_typer(pay.app, name="pay")
app.add_typer(offer.app, name="offer")
app.command("buy", cls=Command)(offer.buy)
app.add_typer(notice.app, name="notice")
app.command("doctor", cls=Command)(doctor)
app.command("completion", cls=Command)(completion)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("pennypost"))
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Options here hold for every command of ours; the command's own go before them."""
    context.obj = Defaults(
        home,
        office or os.environ.get("PENNYPOST_OFFICE"),
        mint or os.environ.get("PENNYPOST_MINT"),
        as_json,
    )


def main() -> None:
    """Run the command line and end the process with its exit code."""
    # Bytes that are no UTF-8 are refused where they are used; what a terminal cannot show is spelled out.
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=errors)
    try:
        app()
    except PennypostError as error:
        if "--json" in sys.argv:
            print(json.dumps({"error": error.code, "message": str(error), "remedy": error.remedy}))
        print(explain(error), file=sys.stderr)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        print("\nInterrupted; running the same command again is safe.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has gone; nothing may be flushed into it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(OTHER)
