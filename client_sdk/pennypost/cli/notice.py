"""`pennypost notice`: payments that tell of a letter."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from pennypost.cli.mail import KEEP, TEXT_LIMIT, show_mail
from pennypost.cli.plugins import Command
from pennypost.cli.price import DryRunOption, show_price
from pennypost.cli.talk import (
    HomeOption,
    JsonOption,
    LightningOption,
    MintOption,
    OfficeOption,
    QrOption,
    Talk,
    called,
    plain,
    sats,
    when,
)

if TYPE_CHECKING:
    from pennypost.client import AsyncClient
    from pennypost.notices import Announced, NoticeReceipt, Price

RelayOption = Annotated[
    list[str] | None, typer.Option("--relay", metavar="URL", help="Also post it there. May be repeated.")
]
_PASTE: Final = 16_384

app = typer.Typer(help="Payments that tell of a letter: send, price, watch, read, fetch.", no_args_is_help=True)


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
    pay: Annotated[
        str | None, typer.Option("--pay", help="A Lightning address, LNURL, or node key; without: hand it over.")
    ] = None,
    sat: Annotated[int, typer.Option("--sat", min=1, help="What the payment brings.")] = 1,
    most: Annotated[int, typer.Option("--most", min=1, help="The most that it may bring.")] = 100,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="The notice does not say who writes.")] = False,
    relay: RelayOption = None,
    max_stamps: Annotated[int, typer.Option("--max-stamps", min=0, help="The most that all relays may cost.")] = 64,
    keep: Annotated[Literal["1h", "1d", "7d", "30d"], typer.Option("--keep", help="How long it is kept.")] = "7d",
    once: Annotated[
        str | None, typer.Option("--once", metavar="KEY", help="A name of yours: this notice is sent once, ever.")
    ] = None,
    dry_run: DryRunOption = False,
    nwc: LightningOption = None,
    qr: QrOption = False,
) -> None:
    """Write a letter, and tell its receiver by a Lightning payment whose comment only he can read.

    After an error or a crash the same command goes on with the same letter and the same payment; nothing is posted or
    paid twice. With --once this holds after it is done too, so a script may repeat it.

    Examples:

      pennypost notice send npub1… "hello Bob" --pay bob@wallet.example --sat 10 --nwc wallet.link
      pennypost notice send npub1… "hello Bob" --json
      pennypost notice send npub1… "hello Bob" --pay bob@wallet.example --sat 10 --dry-run
      pennypost notice send npub1… "invoice 7 is due" --pay bob@wallet.example --once invoice-7
    """
    talk = Talk(context, home, office, mint, as_json)
    if text == "-":
        text = sys.stdin.read(TEXT_LIMIT).removesuffix("\n")

    async def work(client: AsyncClient) -> NoticeReceipt:
        if relay and not dry_run:
            prices = await client.notices.prices(text, relay, keep=KEEP[keep])
            for each in prices:
                talk.say(_price(each))
            talk.say(f"{sum(each.sat or 0 for each in prices)} stamps in all.")
        return await client.notices.send(
            who,
            text,
            pay=pay,
            sat=sat,
            most=most,
            anonymous=anonymous,
            relays=relay or (),
            max_stamps=max_stamps,
            keep=KEEP[keep],
            once=once,
            dry_run=dry_run,
        )

    done = talk.run(work, lightning=talk.link(nwc))
    if dry_run:
        talk.result(asdict(done), "")
        return show_price(talk, done.receipts, done.msat, done.fee_msat)
    if done.carrier == "hand":
        talk.draw(done.notice, qr)
    talk.result(asdict(done), done.notice if done.carrier == "hand" else "")
    stored = sum(receipt.accepted for receipt in done.receipts)
    talk.say(f"Posted to {stored} of {len(done.receipts)} relays.")
    if done.carrier == "hand":
        talk.say("Give him the text above; only he can read it.")
    else:
        named = "" if done.signed else " It had no room to say who writes."
        talk.say(f"Told by a payment of {sats(done.msat)}, with {sats(done.fee_msat)} of fees.{named}")


@app.command("price", cls=Command)
def price(
    context: typer.Context,
    text: Annotated[
        str, typer.Argument(metavar="[TEXT|-]", help="The letter; - or nothing reads it from stdin.")
    ] = "-",
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
    relay: RelayOption = None,
    keep: Annotated[Literal["1h", "1d", "7d", "30d"], typer.Option("--keep", help="How long it is kept.")] = "7d",
) -> None:
    """Show what each relay asks for a letter, and the whole; nothing is sent.

    Examples:

      pennypost notice price "hello Bob" --relay relay.example --relay other.example
    """
    talk = Talk(context, home, office, mint, as_json)
    if text == "-":
        text = sys.stdin.read(TEXT_LIMIT).removesuffix("\n")
    found = talk.run(lambda client: client.notices.prices(text, relay or (), keep=KEEP[keep]))
    for each in found:
        talk.result(asdict(each), _price(each))
    talk.say(f"{sum(each.sat or 0 for each in found)} stamps in all.")


def _price(price: Price) -> str:
    return f"{plain(price.relay)}  {'left out' if price.sat is None else f'{price.sat} sat'}"


@app.command("read", cls=Command)
def read(
    context: typer.Context,
    notice: Annotated[str, typer.Argument(metavar="NOTICE|-", help="A comment with ppn1…; - reads it from stdin.")],
    home: HomeOption = None,
    office: OfficeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say who announces a letter, and where it is. Asks nobody: nobody learns that you looked.

    Examples:

      pennypost notice read ppn1…
    """
    talk = Talk(context, home, office, as_json=as_json)
    text = sys.stdin.read(_PASTE) if notice == "-" else notice

    async def work(client: AsyncClient) -> None:
        await _announce(talk, client, client.notices.read(text))

    talk.run(work)


async def _announce(talk: Talk, client: AsyncClient, found: Announced) -> None:
    contact = await client.contacts.name(found.sender) if found.sender else ""
    who = called(found.sender, contact) if found.sender else "somebody who does not say who"
    where = f" at {found.where}" if found.where else ""
    paid = f", with {sats(found.msat)}" if found.msat else ""
    said = f"{who} has a letter for you{where}, kept until {when(found.expires_at)}{paid}."
    talk.result(asdict(found) | {"contact": contact}, said)


@app.command("fetch", cls=Command)
def fetch(
    context: typer.Context,
    notice: Annotated[str, typer.Argument(metavar="NOTICE|-", help="A comment with ppn1…; - reads it from stdin.")],
    home: HomeOption = None,
    office: OfficeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch and open the letter of a notice, and check that its writer wrote the notice.

    Examples:

      pennypost notice fetch ppn1…
    """
    talk = Talk(context, home, office, as_json=as_json)
    text = sys.stdin.read(_PASTE) if notice == "-" else notice

    async def work(client: AsyncClient) -> None:
        mail = await client.notices.fetch(text)
        show_mail(talk, mail, await client.contacts.name(mail.sender))

    talk.run(work)


@app.command("watch", cls=Command)
def watch(
    context: typer.Context,
    home: HomeOption = None,
    office: OfficeOption = None,
    as_json: JsonOption = False,
    nwc: LightningOption = None,
) -> None:
    """Listen to the payments of your wallet, and show the notices among them; fetches nothing.

    Examples:

      pennypost notice watch --nwc wallet.link --json
    """
    talk = Talk(context, home, office, as_json=as_json)

    async def work(client: AsyncClient) -> None:
        async for found in client.notices.watch():
            await _announce(talk, client, found)

    talk.run(work, lightning=talk.link(nwc))
