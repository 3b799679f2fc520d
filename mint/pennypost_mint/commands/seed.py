"""Commands about the seed's file: encrypted, opened, with another passphrase."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from pennypost.protocol.errors import MintNotStarted, PassphraseUnusable
from pennypost_mint.commands.talk import Json, show
from pennypost_mint.runtime.settings import Settings, load_settings

NewPassphrase = Annotated[
    Path | None, typer.Option("--new-passphrase-file", help="A file with the new passphrase; else it is asked for.")
]


def encrypt(new_passphrase_file: NewPassphrase = None, as_json: Json = False) -> None:
    """Encrypt the seed file. Servers need PENNYPOST_MINT_SEED_PASSPHRASE_FILE at their next start.

    Without the passphrase the seed is gone: keep it where the file is not.

    Examples:

      pennypost mint seed encrypt
      pennypost mint seed encrypt --new-passphrase-file /run/secrets/passphrase
    """
    _rewrite(lambda settings: "", lambda: _new_passphrase(new_passphrase_file), as_json)


def change_passphrase(new_passphrase_file: NewPassphrase = None, as_json: Json = False) -> None:
    """Encrypt the seed file with another passphrase. Copies and backups made before keep the old one.

    Examples:

      pennypost mint seed change-passphrase
    """
    _rewrite(_old_passphrase, lambda: _new_passphrase(new_passphrase_file), as_json)


def decrypt(as_json: Json = False) -> None:
    """Write the seed in clear into its file, readable by its owner alone.

    Examples:

      pennypost mint seed decrypt
    """
    _rewrite(_old_passphrase, lambda: "", as_json)


def _rewrite(old: Callable[[Settings], str], new: Callable[[], str], as_json: bool) -> None:
    from pennypost_mint.seed import is_sealed, read_seed, read_text, seal, write_seed

    settings = load_settings()
    path = settings.seed_file
    text = read_text(path)
    if text is None:
        raise MintNotStarted("there is no seed file")
    passphrase = old(settings) if is_sealed(text) else ""
    found = read_seed(path, passphrase)
    assert found is not None
    chosen = new()
    write_seed(path, seal(found, chosen) if chosen else found.hex())
    state = "encrypted" if chosen else "in clear"
    show({"seed": state}, f"The seed file is {state} now.", as_json)


def _old_passphrase(settings: Settings) -> str:
    return settings.mint_seed_passphrase.get_secret_value() or _ask("Passphrase")


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
    if len(chosen) < 12:
        raise PassphraseUnusable("it is too short")
    return chosen


def _ask(what: str) -> str:
    import getpass

    if not sys.stdin.isatty():
        raise PassphraseUnusable("there is no terminal to ask for it")
    return getpass.getpass(f"{what}: ", stream=sys.stderr)
