"""`pennypost outbox`: letters that have no answer yet."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pennypost.cli.exit_codes import exit_code
from pennypost.cli.talk import HomeOption, JsonOption, MintOption, OfficeOption, Talk, explain, stamps, when
from pennypost.protocol import nip19
from pennypost.protocol.errors import InvalidInput

if TYPE_CHECKING:
    from pennypost.client import AsyncClient
    from pennypost.drop import Dropped
    from pennypost.letters import Waiting
    from pennypost.mail import Receipt


def outbox(
    context: typer.Context,
    action: Annotated[Literal["drop"] | None, typer.Argument(metavar="[drop", help="Give up a letter.")] = None,
    event_id: Annotated[str | None, typer.Argument(metavar="ID]", help="Its id, as the list shows it.")] = None,
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
    send: Annotated[bool, typer.Option("--send", help="Send them now, each with the stamp that it has.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Drop it without asking.")] = False,
) -> None:
    """Letters that have no answer yet, after a crash or while an office was away. They go with the next `send`.

    With `drop` one is given up: it is not sent again, its text cannot be had back, and its stamps are yours again, but
    for those that the office took already, which the mint tells. For letters whose office is gone.

    Examples:

      pennypost outbox
      pennypost outbox --send --json
      pennypost outbox drop 5f1c… --yes
    """
    talk = Talk(context, home, office, mint, as_json)

    if action is not None or event_id is not None:
        if event_id is None or send:
            raise InvalidInput("`outbox drop` takes the id of one letter")
        _drop(talk, event_id.lower(), yes)
        return
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
        text += f"\n    {each.event_id}"
        talk.result(asdict(each) | {"to": to}, text)
    talk.say("They go with the next letter, or by `pennypost outbox --send`." if found else "The outbox is empty.")


def _drop(talk: Talk, event_id: str, yes: bool) -> None:
    async def look(client: AsyncClient) -> list[Waiting]:
        return [each for each in await client.outbox() if each.event_id == event_id]

    async def work(client: AsyncClient) -> list[Dropped]:
        return await client.drop(event_id)

    found = talk.run(look)
    for each in found:
        held = f"its {stamps(each.stamps)} come back unless it took them" if each.stamps else "it holds no stamps"
        talk.say(f"{each.office}: the letter is lost, and never sent there again; {held}.")
    if found and not yes:
        if not sys.stdin.isatty():
            raise InvalidInput("nobody is there to be asked: --yes drops it")
        typer.confirm("Drop it?", abort=True, err=True)
    for each in talk.run(work):
        talk.result(asdict(each), "")
        unseen = "" if each.checked else " The mint does not answer: whether they are spent is seen when they are used."
        taken = f" {stamps(each.taken)} taken: the office has the letter." if each.taken else ""
        talk.say(f"{each.office}: dropped, {stamps(each.returned)} back.{taken}{unseen}")


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
