"""`pennypost … seed`: a seed's file encrypted, opened, with another passphrase. Both servers have one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from pennypost.protocol.errors import ConfigurationError, PassphraseUnusable, SeedLocked
from pennypost_mint.runtime.settings import Settings, load_settings

SHORTEST = 12
"""Characters of a passphrase."""

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, people's talk on stderr.")]
NewPassphrase = Annotated[
    Path | None, typer.Option("--new-passphrase-file", help="A file with the new passphrase; else it is asked for.")
]


@dataclass(frozen=True)
class SeedFile:
    """One seed as its commands speak of it: `group` and `setting` are names, `absent` and `locked` what is raised."""

    group: str
    setting: str
    path: Callable[[Settings], Path]
    passphrase: Callable[[Settings], SecretStr]
    absent: type[ConfigurationError]
    locked: type[SeedLocked]


def seed_commands(file: SeedFile) -> typer.Typer:
    """`encrypt`, `change-passphrase` and `decrypt` for one seed. The file is replaced whole or not at all."""
    commands = typer.Typer(help=f"The file of the {file.group}'s seed.", no_args_is_help=True, rich_markup_mode=None)
    command = f"pennypost {file.group} seed"

    @commands.command(
        help=f"""Encrypt the seed file. Servers need {file.setting} at their next start.

    Without the passphrase the seed is gone: keep it where the file is not.

    Examples:

      {command} encrypt
      {command} encrypt --new-passphrase-file /run/secrets/passphrase
    """
    )
    def encrypt(new_passphrase_file: NewPassphrase = None, as_json: Json = False) -> None:
        _rewrite(file, lambda settings: "", lambda: _new_passphrase(new_passphrase_file), as_json)

    @commands.command(
        "change-passphrase",
        help=f"""Encrypt the seed file with another passphrase. Copies and backups made before keep the old one.

    Examples:

      {command} change-passphrase
    """,
    )
    def change_passphrase(new_passphrase_file: NewPassphrase = None, as_json: Json = False) -> None:
        _rewrite(file, lambda settings: _known(file, settings), lambda: _new_passphrase(new_passphrase_file), as_json)

    @commands.command(
        help=f"""Write the seed in clear into its file, readable by its owner alone.

    Examples:

      {command} decrypt
    """
    )
    def decrypt(as_json: Json = False) -> None:
        _rewrite(file, lambda settings: _known(file, settings), lambda: "", as_json)

    return commands


def _rewrite(file: SeedFile, old: Callable[[Settings], str], new: Callable[[], str], as_json: bool) -> None:
    from pennypost_mint.seed import is_sealed, read_seed, read_text, seal, write_seed

    settings = load_settings()
    path = file.path(settings)
    text = read_text(path)
    if text is None:
        raise file.absent("there is no seed file")
    try:
        found = read_seed(path, old(settings) if is_sealed(text) else "")
    except SeedLocked as error:
        raise file.locked(error.detail) from None
    assert found is not None
    chosen = new()
    write_seed(path, seal(found, chosen) if chosen else found.hex())
    state = "encrypted" if chosen else "in clear"
    print(json.dumps({"seed": state}) if as_json else f"The seed file is {state} now.", flush=True)


def _known(file: SeedFile, settings: Settings) -> str:
    return file.passphrase(settings).get_secret_value() or _ask("Passphrase")


def _new_passphrase(file: Path | None) -> str:
    if file is None:
        chosen = _ask("New passphrase")
        if _ask("Once more") != chosen:
            raise PassphraseUnusable("the two differ")
    else:
        try:
            chosen = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise PassphraseUnusable("its file cannot be read") from None
    if len(chosen) < SHORTEST:
        raise PassphraseUnusable("it is too short")
    return chosen


def _ask(what: str) -> str:
    import getpass

    if not sys.stdin.isatty():
        raise PassphraseUnusable("there is no terminal to ask for it")
    return getpass.getpass(f"{what}: ", stream=sys.stderr)
