"""`pennypost contacts`: whom you know, and whom you do not want to hear."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from pennypost.cli.plugins import Command
from pennypost.cli.talk import HomeOption, JsonOption, OfficeOption, Talk, plain

if TYPE_CHECKING:
    from pennypost.client import AsyncClient
    from pennypost.contacts import Contact

app = typer.Typer(help="Contacts and blocked people: add, block, remove, list.", no_args_is_help=True)
Who = Annotated[str, typer.Argument(metavar="WHO", help="npub, nprofile, 64 hex digits or name@domain.")]
Name = Annotated[str, typer.Option("--name", help="What you call them; nobody else sees it.")]


@app.command("add", cls=Command)
def add(
    context: typer.Context,
    who: Who,
    name: Name = "",
    home: HomeOption = None,
    office: OfficeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make somebody a contact: `pennypost inbox --contacts-only` shows their letters. Blocked ones are heard again.

    Examples:

      pennypost contacts add npub1… --name Bob
      pennypost contacts add bob@example.com
    """
    talk = Talk(context, home, office, as_json=as_json)

    async def work(client: AsyncClient) -> Contact:
        return await client.contacts.add(who, name)

    _show(talk, talk.run(work))


@app.command("block", cls=Command)
def block(
    context: typer.Context,
    who: Who,
    name: Name = "",
    home: HomeOption = None,
    office: OfficeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hear nothing of somebody any more: no letters, no requests for invoices, no offers.

    Examples:

      pennypost contacts block npub1…
    """
    talk = Talk(context, home, office, as_json=as_json)

    async def work(client: AsyncClient) -> Contact:
        return await client.contacts.block(who, name)

    _show(talk, talk.run(work))


@app.command("remove", cls=Command)
def remove(
    context: typer.Context, who: Who, home: HomeOption = None, office: OfficeOption = None, as_json: JsonOption = False
) -> None:
    """Forget a contact, or that somebody was blocked.

    Examples:

      pennypost contacts remove npub1…
    """
    talk = Talk(context, home, office, as_json=as_json)

    async def work(client: AsyncClient) -> bool:
        return await client.contacts.remove(who)

    removed = talk.run(work)
    talk.result({"removed": removed}, "")
    talk.say("Forgotten." if removed else "There was nothing to forget.")


@app.command("list", cls=Command)
def list_(
    context: typer.Context, home: HomeOption = None, office: OfficeOption = None, as_json: JsonOption = False
) -> None:
    """Contacts and blocked people, in the order they came.

    Examples:

      pennypost contacts list
      pennypost contacts list --json
    """
    talk = Talk(context, home, office, as_json=as_json)

    async def work(client: AsyncClient) -> list[Contact]:
        return await client.contacts.all()

    found = talk.run(work)
    for each in found:
        _show(talk, each)
    if not found:
        talk.say("No contacts.")


def _show(talk: Talk, contact: Contact) -> None:
    talk.result(asdict(contact), f"{contact.npub}  {contact.standing}  {plain(contact.name)}".rstrip())
