"""`pennypost pay`: messages with their payment."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pennypost.cli.mail import KEEP, TEXT_LIMIT
from pennypost.cli.plugins import Command
from pennypost.cli.price import DryRunOption, show_price
from pennypost.cli.talk import (
    HomeOption,
    JsonOption,
    LightningOption,
    MintOption,
    OfficeOption,
    Talk,
    WatchOption,
    called,
    plain,
    sats,
    when,
)
from pennypost.mail import DRY_RUN

if TYPE_CHECKING:
    from pennypost.client import AsyncClient
    from pennypost.paid_mail import PaidReceipt
    from pennypost.trade import Request

app = typer.Typer(help="Messages with their payment: send, requests, answer, finish.", no_args_is_help=True)


@app.command("send", cls=Command)
def send(
    context: typer.Context,
    who: Annotated[str, typer.Argument(help="npub, nprofile, 64 hex digits or name@domain.")],
    text: Annotated[
        str, typer.Argument(metavar="[TEXT|-]", help="The letter; - or nothing reads it from stdin.")
    ] = "-",
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
    sat: Annotated[int, typer.Option("--sat", min=0, help="What to pay; 0: what the receiver asks.")] = 0,
    most: Annotated[int, typer.Option("--most", min=1, help="The most that it may cost, in sat.")] = 1_000,
    about: Annotated[str, typer.Option("--about", help="What the receiver sees before he answers.")] = "",
    hold: Annotated[bool, typer.Option("--hold", help="Post it first, held; the payment releases it.")] = False,
    keep: Annotated[Literal["1h", "1d", "7d", "30d"], typer.Option("--keep", help="How long it is kept.")] = "30d",
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for the receiver's invoice.")] = 60,
    once: Annotated[
        str | None, typer.Option("--once", metavar="KEY", help="A name of yours: this is paid and sent once, ever.")
    ] = None,
    dry_run: DryRunOption = False,
    nwc: LightningOption = None,
) -> None:
    """Pay somebody over Lightning, with a message that only he can read and that shows the payment.

    His invoice is checked before it is paid: amount, description, expiry, and that he sealed it. The same command again
    goes on where this one stopped, and pays once; with --once this holds after it is done too, so a script may repeat
    it. Takes two stamps.

    Examples:

      pennypost pay send npub1… "my question" --sat 100 --nwc wallet.link
      pennypost pay send npub1… "my question" --most 500 --about "two minutes of your time"
      pennypost pay send npub1… "my question" --sat 100 --once question-7
    """
    talk = Talk(context, home, office, mint, as_json)
    if text == "-":
        text = sys.stdin.read(TEXT_LIMIT).removesuffix("\n")

    async def work(client: AsyncClient) -> PaidReceipt:
        return await client.paid.send(
            who,
            text,
            sat=sat,
            most=most,
            about=about,
            hold=hold,
            keep=KEEP[keep],
            once=once,
            dry_run=dry_run,
            wait=wait,
            on_progress=talk.progress,
        )

    _show(talk, talk.run(work, lightning=talk.link(nwc)))


def _show(talk: Talk, done: PaidReceipt) -> None:
    talk.result(asdict(done), "")
    if done.receipt.code == DRY_RUN:
        return show_price(talk, [done.receipt], done.msat, done.fee_msat)
    talk.say(f"Paid {sats(done.msat)} and {sats(done.fee_msat)} of fees; the message is kept until "
             f"{when(done.receipt.kept_until)}.")  # fmt: skip


@app.command("finish", cls=Command)
def finish(
    context: typer.Context,
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
    nwc: LightningOption = None,
) -> None:
    """Post the messages that were paid for and did not go out, because a program ended or an office was away.

    Examples:

      pennypost pay finish --nwc wallet.link
    """
    talk = Talk(context, home, office, mint, as_json)
    done = talk.run(lambda client: client.paid.finish(), lightning=talk.link(nwc))
    for each in done:
        _show(talk, each)
    if not done:
        talk.say("Nothing was left.")


@app.command("requests", cls=Command)
def requests(
    context: typer.Context, home: HomeOption = None, office: OfficeOption = None, as_json: JsonOption = False
) -> None:
    """List who asks for an invoice, to pay you for a message.

    Examples:

      pennypost pay requests --json
    """
    talk = Talk(context, home, office, as_json=as_json)

    async def work(client: AsyncClient) -> int:
        found = await client.paid.requests()
        for each in found:
            await _list(talk, client, each)
        return len(found)

    if not talk.run(work):
        talk.say("Nobody asks.")


async def _list(talk: Talk, client: AsyncClient, request: Request) -> None:
    from pennypost.protocol.nip19 import encode_npub

    npub = encode_npub(bytes.fromhex(request.sender))
    contact = await client.contacts.name(npub)
    offered = sats(request.msat) if request.msat else "your price"
    about = f": {plain(request.about)}" if request.about else ""
    line = f"{request.id}  {called(npub, contact)}  {offered}{about}".replace("\n", " ")
    talk.result(asdict(request) | {"npub": npub, "contact": contact}, line)


@app.command("answer", cls=Command)
def answer(
    context: typer.Context,
    request: Annotated[str | None, typer.Argument(help="The id of one request; by default all.")] = None,
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
    price: Annotated[int, typer.Option("--price", min=1, help="What a message costs, in sat.")] = 21,
    watch: WatchOption = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Answers, and so stamps, at most.")] = 1_000,
    nwc: LightningOption = None,
) -> None:
    """Send invoices to those who want to pay you for a message and offer your price or more. One stamp each.

    Their messages then come into your inbox, with what was paid.

    Examples:

      pennypost pay answer --price 100 --nwc wallet.link
      pennypost pay answer --price 100 --watch --nwc wallet.link
    """
    talk = Talk(context, home, office, mint, as_json)

    async def work(client: AsyncClient) -> int:
        if request is not None:
            await client.paid.requests()
            await client.paid.answer(request, price)
            return 1
        count = 0
        async for each in client.paid.answer_all(price, watch=watch, limit=limit):
            await _list(talk, client, each)
            count += 1
        return count

    count = talk.run(work, lightning=talk.link(nwc))
    talk.say(f"Sent {count} invoice{'' if count == 1 else 's'}.")
