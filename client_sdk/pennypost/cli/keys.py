"""`pennypost keys`: the identity of a home."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pennypost.cli.plugins import Command
from pennypost.cli.talk import HomeOption, JsonOption, OfficeOption, Talk
from pennypost.home import IDENTITY, Home, default_home
from pennypost.keys import Identity, import_identity, load_identity, new_identity

app = typer.Typer(help="Your keys: new, show, import.", no_args_is_help=True)


@app.command("new", cls=Command)
def new(
    context: typer.Context, home: HomeOption = None, office: OfficeOption = None, as_json: JsonOption = False
) -> None:
    """Make keys and print the npub, the name that others write to. Existing keys are never overwritten.

    Examples:

      pennypost keys new
      pennypost keys new --home bob
    """
    talk = Talk(context, home, office, as_json=as_json)
    place = _home(talk)
    _show(talk, new_identity(place))
    talk.say(
        f"Made new keys. Whoever has {place.path}/{IDENTITY} can read your mail: keep it secret, and a copy of it."
    )


@app.command("show", cls=Command)
def show(
    context: typer.Context,
    home: HomeOption = None,
    office: OfficeOption = None,
    as_json: JsonOption = False,
    secret: Annotated[bool, typer.Option("--secret", help="Show the nsec: whoever has it can read your mail.")] = False,
) -> None:
    """Print the npub of a home; keys are made when there are none yet.

    Examples:

      pennypost keys show
      pennypost keys show --json
    """
    talk = Talk(context, home, office, as_json=as_json)
    place = _home(talk)
    identity = load_identity(place)
    if identity is None:
        identity = new_identity(place)
        talk.say(f"Made new keys in {place.path}.")
    _show(talk, identity, secret=secret)


@app.command("import", cls=Command)
def import_(
    context: typer.Context,
    key: Annotated[str | None, typer.Argument(help="nsec or 64 hex digits; asked for, or read from stdin.")] = None,
    home: HomeOption = None,
    office: OfficeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take an existing nsec into a home. Best without naming it: command lines are remembered.

    Examples:

      pennypost keys import
      pennypost keys import --home bob < nsec.txt
    """
    talk = Talk(context, home, office, as_json=as_json)
    if key is None or key == "-":
        key = typer.prompt("nsec", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline()
    _show(talk, import_identity(_home(talk), str(key)))


def _home(talk: Talk) -> Home:
    return Home(talk.home or default_home())


def _show(talk: Talk, identity: Identity, *, secret: bool = False) -> None:
    value = {"npub": identity.npub, "pubkey": identity.pub.hex()} | ({"nsec": identity.nsec} if secret else {})
    talk.result(value, identity.nsec if secret else identity.npub)
