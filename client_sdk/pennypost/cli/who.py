"""`pennypost who`: whose name this is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pennypost.cli.talk import HomeOption, JsonOption, OfficeOption, Talk
from pennypost.protocol import nip19

if TYPE_CHECKING:
    from pennypost.client import AsyncClient


def who(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="name@domain, npub, nprofile or 64 hex digits.")],
    home: HomeOption = None,
    office: OfficeOption = None,
    as_json: JsonOption = False,
    accept: Annotated[bool, typer.Option("--accept", help="Take the key that the name stands for now.")] = False,
) -> None:
    """Print the npub of somebody. The server of a name is asked by https, at most once a day (NIP-05).

    A name that stands for another key than before is refused everywhere until it is accepted here.

    Examples:

      pennypost who bob@example.com
      pennypost who bob@example.com --accept
    """
    talk = Talk(context, home, office, as_json=as_json)

    async def work(client: AsyncClient) -> str:
        return await client.who(name, accept=accept)

    npub = talk.run(work)
    talk.result({"npub": npub, "pubkey": nip19.parse_public_key(npub).hex()}, npub)
