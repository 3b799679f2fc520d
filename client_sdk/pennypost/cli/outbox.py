"""`pennypost outbox`: letters that have no answer yet."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from pennypost.cli.exit_codes import exit_code
from pennypost.cli.talk import HomeOption, JsonOption, MintOption, OfficeOption, Talk, explain, stamps, when
from pennypost.protocol import nip19

if TYPE_CHECKING:
    from pennypost.client import AsyncClient
    from pennypost.letters import Waiting
    from pennypost.mail import Receipt


def outbox(
    context: typer.Context,
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
    send: Annotated[bool, typer.Option("--send", help="Send them now, each with the stamp that it has.")] = False,
) -> None:
    """Letters that have no answer yet, after a crash or while an office was away. They go with the next `send`.

    Examples:

      pennypost outbox
      pennypost outbox --send --json
    """
    talk = Talk(context, home, office, mint, as_json)

    if send:
        _send(talk)
        return

    async def work(client: AsyncClient) -> list[Waiting]:
        return await client.outbox()

    found = talk.run(work)
    for each in found:
        to = nip19.encode_npub(bytes.fromhex(each.to)) if each.to else ""
        stamped = f"with {stamps(each.stamps)}" if each.stamps else "not stamped yet"
        text = f"{when(each.created_at)}  {each.office}  {stamped}\n    {to or 'of a channel, a payment or an offer'}"
        talk.result(asdict(each) | {"to": to}, text)
    talk.say("They go with the next letter, or by `pennypost outbox --send`." if found else "The outbox is empty.")


def _send(talk: Talk) -> None:
    async def work(client: AsyncClient) -> list[Receipt]:
        return await client.flush()

    receipts = talk.run(work)
    for each in receipts:
        talk.result(asdict(each), "")
        said = f"kept until {when(each.kept_until)}" if each.error is None else explain(each.error)
        talk.say(f"{each.office}: {said}")
    if not receipts:
        talk.say("Nothing was sent: the outbox is empty.")
    refused = next((each.error for each in receipts if each.error is not None), None)
    if refused is not None:
        raise typer.Exit(exit_code(refused))
