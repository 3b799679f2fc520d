"""`pennypost session`: letters whose keys are used once and deleted."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from pennypost.cli.exit_codes import exit_code
from pennypost.cli.mail import TEXT_LIMIT
from pennypost.cli.plugins import Command
from pennypost.cli.price import DryRunOption, show_price
from pennypost.cli.talk import HomeOption, JsonOption, MintOption, OfficeOption, QrOption, Talk, explain, stamps
from pennypost.mail import DRY_RUN

if TYPE_CHECKING:
    from pennypost.client import AsyncClient
    from pennypost.mail import Receipt

app = typer.Typer(
    help="Sessions (Double Ratchet): publish, word, meet, introduce, addresses, forget. Write with `send --session`.",
    no_args_is_help=True,
)

Once = Annotated[str | None, typer.Option("--once", metavar="KEY", help="A name of yours: this is sent once, ever.")]
Who = Annotated[str, typer.Argument(metavar="WHO", help="npub, nprofile, 64 hex digits or name@domain.")]


@app.command("publish", cls=Command)
def publish(
    context: typer.Context,
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
    once: Once = None,
    dry_run: DryRunOption = False,
) -> None:
    """Publish this device's signed key under your npub, so that anyone can begin a session. Once a month.

    Examples:

      pennypost session publish
      pennypost session publish --once november
    """
    talk = Talk(context, home, office, mint, as_json)

    async def work(client: AsyncClient) -> Receipt:
        return await client.sessions.publish(once=once, dry_run=dry_run)

    _sent(talk, talk.run(work), "Published")


@app.command("word", cls=Command)
def word(
    context: typer.Context,
    home: HomeOption = None,
    office: OfficeOption = None,
    as_json: JsonOption = False,
    qr: QrOption = True,
) -> None:
    """Print this device's keys with one that is used once, as a word for one person: by QR, or over a safe line.

    Examples:

      pennypost session word
    """
    talk = Talk(context, home, office, as_json=as_json)

    async def work(client: AsyncClient) -> str:
        return await client.sessions.word()

    made = talk.run(work)
    talk.draw(made, qr)
    talk.result({"word": made}, made)


@app.command("meet", cls=Command)
def meet(
    context: typer.Context,
    given: Annotated[str, typer.Argument(metavar="WORD|-", help="Their word pps1… (- : stdin).")],
    home: HomeOption = None,
    office: OfficeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the word that somebody has shown you, and print whose it is.

    Examples:

      pennypost session meet pps1…
    """
    talk = Talk(context, home, office, as_json=as_json)
    text = sys.stdin.read(TEXT_LIMIT) if given == "-" else given

    async def work(client: AsyncClient) -> str:
        return await client.sessions.meet(text)

    npub = talk.run(work)
    talk.result({"npub": npub}, npub)


@app.command("introduce", cls=Command)
def introduce(
    context: typer.Context,
    who: Who,
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
    once: Once = None,
    dry_run: DryRunOption = False,
) -> None:
    """Send somebody your word, sealed in a letter.

    Examples:

      pennypost session introduce npub1…
    """
    talk = Talk(context, home, office, mint, as_json)

    async def work(client: AsyncClient) -> Receipt:
        return await client.sessions.introduce(who, once=once, dry_run=dry_run)

    _sent(talk, talk.run(work), "Sent")


@app.command("addresses", cls=Command)
def addresses(
    context: typer.Context, who: Who, home: HomeOption = None, office: OfficeOption = None, as_json: JsonOption = False
) -> None:
    """The devices that a message to somebody would go to, each with a stamp of its own.

    Examples:

      pennypost session addresses npub1…
    """
    talk = Talk(context, home, office, as_json=as_json)

    async def work(client: AsyncClient) -> list[str]:
        return await client.sessions.addresses(who)

    for each in talk.run(work):
        talk.result({"address": each}, each)


@app.command("forget", cls=Command)
def forget(
    context: typer.Context,
    who: Who,
    device: Annotated[str | None, typer.Argument(metavar="[DEVICE]", help="The digits after #; all without.")] = None,
    home: HomeOption = None,
    office: OfficeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Drop the sessions with somebody, or with a device that is lost; the next message begins anew.

    Examples:

      pennypost session forget npub1… 1a2b3c4d
    """
    talk = Talk(context, home, office, as_json=as_json)

    async def work(client: AsyncClient) -> int:
        return await client.sessions.forget(who, device)

    dropped = talk.run(work)
    talk.result({"dropped": dropped}, "")
    talk.say(f"Dropped: {dropped}.")


def _sent(talk: Talk, receipt: Receipt, done: str) -> None:
    talk.result(asdict(receipt), "")
    if receipt.code == DRY_RUN:
        return show_price(talk, [receipt])
    if receipt.error is not None:
        talk.say(explain(receipt.error))
        raise typer.Exit(exit_code(receipt.error))
    talk.say(f"{done}: {stamps(receipt.stamps)} used.")
