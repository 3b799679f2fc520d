"""`pennypost offer` and `pennypost buy`: texts for sale."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final, Literal

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
    QrOption,
    Talk,
    WatchOption,
    called,
    plain,
    sats,
    stamps,
    when,
)
from pennypost.protocol.errors import GarbageProof
from pennypost.protocol.nip19 import encode_npub
from pennypost.protocol.offer import judge as judge_evidence

if TYPE_CHECKING:
    from pennypost.client import AsyncClient
    from pennypost.offers import Listed

LOOK: Final = 2.0
"""Seconds between two looks at the wallet while watching."""

app = typer.Typer(
    help="Texts for sale: make, settle, sales, list, refund, judge; and `pennypost buy`.", no_args_is_help=True
)


@app.command("make", cls=Command)
def make(
    context: typer.Context,
    text: Annotated[
        str, typer.Argument(metavar="[TEXT|-]", help="What is sold; - or nothing reads it from stdin.")
    ] = "-",
    to: Annotated[
        list[str] | None, typer.Option("--to", help="A buyer: npub, nprofile or hex. May be repeated.")
    ] = None,
    sat: Annotated[int, typer.Option("--sat", min=1, help="The price for each buyer.")] = 21,
    description: Annotated[str, typer.Option("--description", help="What the buyer sees before he pays.")] = "",
    valid: Annotated[Literal["1h", "1d", "7d", "30d"], typer.Option("--valid", help="How long it can be paid.")] = "1d",
    ecash: Annotated[bool, typer.Option("--ecash", help="Be paid in stamps of your mint, without Lightning.")] = False,
    trust_office: Annotated[
        bool, typer.Option("--trust-office", help="Last resort: let the office hand out the key.")
    ] = False,
    once: Annotated[
        str | None,
        typer.Option("--once", metavar="KEY", help="A name of yours: each buyer gets this once, ever."),
    ] = None,
    dry_run: DryRunOption = False,
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
    nwc: LightningOption = None,
    qr: QrOption = False,
) -> None:
    """Offer a text to buyers; the payment releases its key, and to nobody else. Takes two stamps a buyer.

    After an error or a crash the same command goes on with the same offers. With --once this holds after they are made
    too, so a script may repeat it.

    Examples:

      pennypost offer make "the report" --to npub1… --sat 100 --description "October" --nwc wallet.link
      pennypost offer make - --to npub1… --to npub1… --sat 100 < report.txt
    """
    talk = Talk(context, home, office, mint, as_json)
    if text == "-":
        text = sys.stdin.read(TEXT_LIMIT).removesuffix("\n")
    link = talk.link(nwc)
    sales = talk.run(
        lambda client: client.offers.sell(
            to or [],
            text,
            sat=sat,
            description=description,
            valid=KEEP[valid],
            ecash=ecash,
            trust_office=trust_office,
            once=once,
            dry_run=dry_run,
            on_progress=talk.progress,
        ),
        lightning=link,
    )
    if dry_run:
        for sale in sales:
            talk.result(asdict(sale), "")
        return show_price(talk, [each for sale in sales for each in sale.receipts])
    for sale in sales:
        talk.draw(sale.offer, qr)
        talk.result(asdict(sale), sale.offer)
        talk.say(f"Offered to {sale.buyer} for {sale.sat} sat until {when(sale.expires_at)}.")
    if any(sale.hold for sale in sales):
        talk.say("Payments wait until you take them: keep `pennypost offer settle --watch` running.")


@app.command("settle", cls=Command)
def settle(
    context: typer.Context,
    home: HomeOption = None,
    office: OfficeOption = None,
    as_json: JsonOption = False,
    watch: WatchOption = False,
    nwc: LightningOption = None,
) -> None:
    """Take the payments that wait for you, held by your wallet or in locked stamps: it gives the buyers their keys.

    Examples:

      pennypost offer settle --nwc wallet.link
      pennypost offer settle --watch --nwc wallet.link
    """
    talk = Talk(context, home, office, as_json=as_json)

    async def work(client: AsyncClient) -> int:
        count = 0
        while True:
            for each in await client.offers.settle():
                count += 1
                talk.result({"id": each.subject, "msat": each.msat}, f"{each.subject}  {sats(each.msat)}")
            if not watch:
                return count
            await asyncio.sleep(LOOK)

    if not talk.run(work, lightning=talk.link(nwc)):
        talk.say("Nothing new was paid.")


@app.command("sales", cls=Command)
def sales(
    context: typer.Context, home: HomeOption = None, office: OfficeOption = None, as_json: JsonOption = False
) -> None:
    """List your offers and how they stood when you last looked (`settle`). Asks nobody.

    Examples:

      pennypost offer sales --json
    """
    talk = Talk(context, home, office, as_json=as_json)
    for each in talk.run(lambda client: client.offers.sales()):
        npub = encode_npub(bytes.fromhex(each.peer))
        value = {"id": each.subject, "buyer": npub, "msat": each.msat, "state": each.state, "hold": each.hold}
        talk.result(value | {"expires_at": each.expires_at}, f"{each.subject}  {npub}  {sats(each.msat)}  {each.state}")


@app.command("list", cls=Command)
def listing(
    context: typer.Context, home: HomeOption = None, office: OfficeOption = None, as_json: JsonOption = False
) -> None:
    """List what is offered to you; `pennypost buy` takes the beginning of an id.

    Examples:

      pennypost offer list
    """
    talk = Talk(context, home, office, as_json=as_json)

    async def work(client: AsyncClient) -> list[tuple[Listed, str]]:
        return [(each, await client.contacts.name(each.seller)) for each in await client.offers.all()]

    found = talk.run(work)
    for each, contact in found:
        trust = "  (you would trust the office with the key)" if each.trusts_office else ""
        said = plain(each.description).replace("\n", " ")
        seller = called(each.seller, contact)
        text = f"{each.id[:16]}  {seller}  {each.sat} sat  until {when(each.expires_at)}  {each.state}{trust}"
        talk.result(asdict(each) | {"contact": contact}, f"{text}\n    {said}" if said else text)
    if not found:
        talk.say("Nothing is offered to you.")


@app.command("refund", cls=Command)
def refund(
    context: typer.Context,
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have back stamps that you locked for an offer and that its seller did not take in time.

    Examples:

      pennypost offer refund
    """
    talk = Talk(context, home, office, mint, as_json)
    back = talk.run(lambda client: client.offers.refunds())
    talk.result({"refunded": back}, "")
    talk.say(f"{stamps(back)} came back.")


@app.command("judge", cls=Command)
def judge(
    context: typer.Context,
    evidence: Annotated[str, typer.Argument(metavar="EVIDENCE|-", help="ppg1…; - reads it from stdin.")],
    as_json: JsonOption = False,
) -> None:
    """Check somebody's evidence that what he paid for was garbage. Needs no keys and asks nobody.

    Examples:

      pennypost offer judge ppg1…
    """
    talk = Talk(context, as_json=as_json)
    offer = judge_evidence(sys.stdin.read(1 << 17) if evidence == "-" else evidence)
    npub = encode_npub(offer.seller)
    value = {"seller": npub, "msat": offer.msat, "description": offer.description, "id": offer.id.hex()}
    talk.result(value, f"True: {npub} signed an offer for {sats(offer.msat)} that does not hold what it promises.")


def buy(
    context: typer.Context,
    offer: Annotated[
        str, typer.Argument(metavar="OFFER|-", help="Its text (ppo1…), or the beginning of its id; - : from stdin.")
    ],
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
    most: Annotated[int, typer.Option("--most", min=1, help="The most that it may cost, in sat.")] = 1_000,
    trust_office: Annotated[
        bool, typer.Option("--trust-office", help="Also an offer whose key the office hands out.")
    ] = False,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds for a seller to take locked stamps.")] = 60,
    dry_run: DryRunOption = False,
    nwc: LightningOption = None,
) -> None:
    """Buy an offered text: verify everything, pay, open it. The same command again pays no second time.

    Examples:

      pennypost buy 1f2e3d4c --nwc wallet.link
      pennypost buy ppo1… --most 100 --json
      pennypost buy - < offer.txt
    """
    talk = Talk(context, home, office, mint, as_json)
    wanted = sys.stdin.read(TEXT_LIMIT).strip() if offer == "-" else offer
    try:
        bought = talk.run(
            lambda client: client.offers.buy(wanted, most=most, trust_office=trust_office, dry_run=dry_run, wait=wait),
            lightning=talk.link(nwc),
        )
    except GarbageProof as error:
        talk.result({"evidence": error.evidence}, error.evidence)
        raise
    if dry_run:
        talk.result(asdict(bought), "")
        return show_price(talk, bought.receipts, bought.msat, bought.fee_msat)
    talk.result(asdict(bought), plain(bought.text))
    talk.say(f"Paid {sats(bought.msat)} and {sats(bought.fee_msat)} of fees to {bought.seller}.")
