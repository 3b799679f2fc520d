"""`pennypost keys`: the identity of a home, and the passphrase of everything in it."""

from __future__ import annotations

import asyncio
import getpass
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pennypost.cli.exit_codes import exit_code
from pennypost.cli.plugins import Command
from pennypost.cli.talk import HomeOption, JsonOption, OfficeOption, QrOption, Talk, WatchOption, explain
from pennypost.home import IDENTITY, read_passphrase
from pennypost.keys import Identity, import_identity, load_identity, new_identity
from pennypost.protocol.errors import PassphraseUnusable

if TYPE_CHECKING:
    from pennypost.client import AsyncClient
    from pennypost.mail import Receipt

KEY_LIMIT: Final = 512
"""Characters read of a scan key."""

app = typer.Typer(help="Your keys: new, show, import, scan, encrypt, decrypt, passwd.", no_args_is_help=True)

NewPassphrase = Annotated[
    Path | None,
    typer.Option("--new-passphrase-file", metavar="FILE", help="A file with the new passphrase; else it is asked for."),
]


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
    place = talk.place()
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
    qr: QrOption = False,
) -> None:
    """Print the npub of a home; keys are made when there are none yet.

    Examples:

      pennypost keys show
      pennypost keys show --json
    """
    talk = Talk(context, home, office, as_json=as_json)
    place = talk.place()
    identity = load_identity(place)
    if identity is None:
        identity = new_identity(place)
        talk.say(f"Made new keys in {place.path}.")
    talk.draw(identity.nsec if secret else identity.npub, qr)
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
    _show(talk, import_identity(talk.place(), str(key)))


@app.command("encrypt", cls=Command)
def encrypt(
    context: typer.Context,
    home: HomeOption = None,
    new_passphrase_file: NewPassphrase = None,
    as_json: JsonOption = False,
) -> None:
    """Encrypt a home: keys, wallet seed, wallet link, and the database with stamps, sessions and letters.

    From then on every command needs the passphrase: PENNYPOST_PASSPHRASE_FILE, PENNYPOST_PASSPHRASE, or it asks.
    Without it everything is gone: keep it where the home is not. Interrupted or killed, run it again.

    Examples:

      pennypost keys encrypt
      pennypost keys encrypt --home bob --new-passphrase-file /run/secrets/bob
    """
    from pennypost import keyring

    talk = Talk(context, home, as_json=as_json)
    keyring.encrypt(talk.place(), _new_passphrase(new_passphrase_file))
    talk.result({"encrypted": True}, "")
    talk.say("The home is encrypted now. Backups and copies made before are not.")


@app.command("decrypt", cls=Command)
def decrypt(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Write everything of an encrypted home in clear again, readable by its owner alone.

    Examples:

      pennypost keys decrypt --home bob
    """
    from pennypost import keyring

    talk = Talk(context, home, as_json=as_json)
    keyring.decrypt(talk.place())
    talk.result({"encrypted": False}, "")
    talk.say("The home is in clear now.")


@app.command("passwd", cls=Command)
def passwd(
    context: typer.Context,
    home: HomeOption = None,
    new_passphrase_file: NewPassphrase = None,
    as_json: JsonOption = False,
) -> None:
    """Give an encrypted home another passphrase. Copies made before open with the old one.

    Examples:

      pennypost keys passwd
      pennypost keys passwd --new-passphrase-file /run/secrets/new
    """
    from pennypost import keyring

    talk = Talk(context, home, as_json=as_json)
    place = talk.place()
    place.key()
    keyring.change_passphrase(place, _new_passphrase(new_passphrase_file))
    talk.result({"encrypted": True}, "")
    talk.say("The passphrase is another one now.")


def _new_passphrase(file: Path | None) -> str:
    if file is not None:
        return read_passphrase(file)
    if not sys.stdin.isatty():
        raise PassphraseUnusable("there is no terminal to ask for it")
    chosen = getpass.getpass("New passphrase: ", stream=sys.stderr)
    if getpass.getpass("Once more: ", stream=sys.stderr) != chosen:
        raise PassphraseUnusable("the two differ")
    return chosen


@app.command("scan", cls=Command)
def scan(
    context: typer.Context,
    home: HomeOption = None,
    office: OfficeOption = None,
    as_json: JsonOption = False,
    export: Annotated[
        bool, typer.Option("--export", help="Print the scan key, for a watcher: it finds your letters, opens none.")
    ] = False,
    publish: Annotated[
        bool, typer.Option("--publish", help="Tell everyone at the office that your mail is read there.")
    ] = False,
    qr: QrOption = False,
) -> None:
    """Print your address with a scan key apart from the npub: letters to it are found by whoever holds that key.

    Letters to the npub alone arrive as before, and no watcher finds them. A scan key cannot be taken back.

    Examples:

      pennypost keys scan
      pennypost keys scan --export > watcher.key
      pennypost keys scan --publish
    """
    talk = Talk(context, home, office, as_json=as_json)

    async def work(client: AsyncClient) -> tuple[str, str, Receipt | None]:
        receipt = await client.addresses.publish() if publish else None
        return await client.addresses.make(), await client.addresses.scan_key(), receipt

    address, key, receipt = talk.run(work)
    talk.draw(key if export else address, qr)
    talk.result({"address": address} | ({"scan_key": key} if export else {}), key if export else address)
    if receipt is not None and receipt.error is not None:
        talk.say(explain(receipt.error))
        raise typer.Exit(exit_code(receipt.error))


@app.command("find", cls=Command)
def find(
    context: typer.Context,
    who: Annotated[str, typer.Argument(help="npub, nprofile, 64 hex digits or name@domain.")],
    home: HomeOption = None,
    office: OfficeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the address that somebody published at the office; the npub where there is none.

    Examples:

      pennypost send $(pennypost keys find npub1…) "meet at nine"
    """
    talk = Talk(context, home, office, as_json=as_json)

    async def work(client: AsyncClient) -> str:
        return await client.addresses.find(who)

    found = talk.run(work)
    talk.result({"address": found}, found)


@app.command("watch", cls=Command)
def watch(
    context: typer.Context,
    office: OfficeOption = None,
    as_json: JsonOption = False,
    after: Annotated[int, typer.Option("--after", min=0, help="Number in the feed to go on from.")] = 0,
    follow: WatchOption = False,
) -> None:
    """List the letters that are for the owner of a scan key, which is read from stdin: number and one-time key.

    It needs no home and no keys, reads the public header feed and nothing else, and can open no letter.

    Examples:

      pennypost keys watch < watcher.key
      pennypost keys watch --follow --json < watcher.key
    """
    talk = Talk(context, None, office, as_json=as_json)

    async def work() -> None:
        transport = NetworkTransport()
        try:
            async for each in Watcher(talk.office, text, transport).found(after=after, watch=follow):
                talk.result(asdict(each), f"{each.number} {each.author}{' held' if each.held else ''}")
        finally:
            await transport.close()

    from pennypost.transport import NetworkTransport
    from pennypost.watcher import Watcher

    text = sys.stdin.readline(KEY_LIMIT)
    asyncio.run(work())


def _show(talk: Talk, identity: Identity, *, secret: bool = False) -> None:
    value = {"npub": identity.npub, "pubkey": identity.pub.hex()} | ({"nsec": identity.nsec} if secret else {})
    talk.result(value, identity.nsec if secret else identity.npub)
