"""`pennypost wallet`: stamps bought, counted, handed on, checked."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pennypost.cli.exit_codes import BY_ERROR
from pennypost.cli.plugins import Command
from pennypost.cli.talk import (
    HomeOption,
    JsonOption,
    LightningOption,
    MintOption,
    OfficeOption,
    Talk,
    plain,
    stamps,
    when,
)
from pennypost.protocol.errors import InvalidInput, OfficeUnreachable, PennypostError

if TYPE_CHECKING:
    from pennypost.client import AsyncClient
    from pennypost.orders import Purchase

app = typer.Typer(
    help="Your stamps: buy, balance, send, receive, check, restore; and the Lightning wallet that pays: connect.",
    no_args_is_help=True,
)

Amount = Annotated[int, typer.Argument(min=1, max=10_000_000, metavar="N", help="Stamps, 1 sat each.")]


@app.command("buy", cls=Command)
def buy(
    context: typer.Context,
    amount: Amount,
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0, help="Seconds to wait for the payment (default: its expiry).")
    ] = None,
    nwc: LightningOption = None,
) -> None:
    """Buy stamps: prints a Lightning invoice (BOLT11), waits until it is paid, fetches the stamps.

    Interrupted or killed, run the same command again: the same invoice is taken up, and what was paid is had. With
    --nwc, or a wallet named in PENNYPOST_WALLET_FILE, that wallet pays the invoice, once.

    Examples:

      pennypost wallet buy 10
      pennypost wallet buy 10 --home alice --json
      pennypost wallet buy 10 --nwc wallet.link
    """
    talk = Talk(context, home, office, mint, as_json)
    link = talk.link(nwc)

    def invoice(purchase: Purchase) -> None:
        if link is not None:
            talk.say(f"Your wallet pays this invoice over {amount} sat:")
        else:
            talk.say(f"Pay this invoice over {amount} sat, until {when(purchase.expiry)}:")
        if link is None and sys.stderr.isatty():
            _draw(purchase.request)
        value = {"state": "unpaid", "amount": amount, "request": purchase.request, "quote": purchase.quote}
        talk.result(value | {"expiry": purchase.expiry}, purchase.request)

    async def work(client: AsyncClient) -> int:
        with suppress(PennypostError):
            info = await client.stamps.mint.info()
            if info.motd:
                talk.say(f"The mint says: {plain(info.motd)}")
        await client.stamps.buy(amount, on_invoice=invoice, on_progress=talk.progress, timeout=timeout, pay=bool(link))
        return await client.stamps.balance()

    balance = talk.run(work, lightning=link)
    talk.say(f"Bought {stamps(amount)}; the wallet has {balance}.")
    talk.result({"state": "issued", "amount": amount, "balance": balance}, "")


def _draw(request: str) -> None:
    import segno

    # Upper case has an alphabet of its own in QR codes, a third smaller.
    segno.make(request.upper(), error="l").terminal(out=sys.stderr, compact=True)


@app.command("balance", cls=Command)
def balance(
    context: typer.Context,
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count the stamps in the wallet. Asks nobody.

    Examples:

      pennypost wallet balance
      pennypost wallet balance --json
    """
    talk = Talk(context, home, office, mint, as_json)
    found = talk.run(lambda client: client.stamps.summary())
    talk.result(
        {
            "balance": found.stamps,
            "reserved": found.reserved,
            "in_tokens": found.in_tokens,
            "in_flight": found.in_flight,
            "unit": "sat",
        },
        str(found.stamps),
    )
    for count, where in (
        (found.reserved, "on letters that wait for an answer"),
        (found.in_tokens, "in tokens that you made"),
        (found.in_flight, "in a swap without an answer; `pennypost wallet check` finishes it"),
    ):
        if count:
            talk.say(f"Besides, {stamps(count)} {where}.")


@app.command("send", cls=Command)
def send(
    context: typer.Context,
    amount: Amount,
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
    memo: Annotated[str | None, typer.Option("--memo", help="A note inside the token.")] = None,
) -> None:
    """Print a token (cashuB…) worth N stamps. Whoever has its text has the stamps.

    Examples:

      pennypost wallet send 5
      pennypost wallet send 5 --json
    """
    talk = Talk(context, home, office, mint, as_json)
    token = talk.run(lambda client: client.stamps.send(amount, memo=memo))
    talk.result({"token": token, "amount": amount}, token)


@app.command("receive", cls=Command)
def receive(
    context: typer.Context,
    token: Annotated[str, typer.Argument(metavar="TOKEN|-", help="cashuA… or cashuB…; - reads it from stdin.")],
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the stamps of somebody's token yours, by a swap at the mint.

    Examples:

      pennypost wallet receive cashuB…
      pennypost wallet receive - < token.txt
    """
    talk = Talk(context, home, office, mint, as_json)
    text = sys.stdin.read(1 << 20) if token == "-" else token

    async def work(client: AsyncClient) -> tuple[int, int]:
        return await client.stamps.receive(text), await client.stamps.balance()

    received, left = talk.run(work)
    talk.say(f"Received {stamps(received)}; the wallet has {left}.")
    talk.result({"received": received, "balance": left}, "")


@app.command("check", cls=Command)
def check(
    context: typer.Context,
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold the wallet against the mint: finish what was left open, forget what is spent, list tokens nobody took.

    Examples:

      pennypost wallet check
      pennypost wallet check --json
    """
    talk = Talk(context, home, office, mint, as_json)
    found = talk.run(lambda client: client.stamps.check(on_progress=talk.progress))
    value = asdict(found) | {"balance": found.stamps}
    talk.result(value, f"{stamps(found.stamps)}, unspent at the mint.")
    if found.recovered:
        talk.say(f"{stamps(found.recovered)} came in that had been paid for or swapped before.")
    if found.lost:
        talk.say(f"{stamps(found.lost)} had been spent elsewhere, and are forgotten now.")
    for token in found.tokens:
        talk.say(f"Nobody has taken this token of {stamps(token.amount)}; to take it back, receive it:\n{token.token}")
    if found.problems:
        talk.say(f"Not settled: {', '.join(found.problems)}. Nothing of it is lost; run the same command later.")
        raise typer.Exit(BY_ERROR[OfficeUnreachable])


@app.command("restore", cls=Command)
def restore(
    context: typer.Context,
    seed_file: Annotated[
        Path | None, typer.Option("--seed-file", help="A copy of another home's wallet.seed, for an empty home.")
    ] = None,
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the stamps of this wallet's seed at the mint again, after its database was lost.

    Examples:

      pennypost wallet restore
      pennypost wallet restore --seed-file backup/wallet.seed --home alice
    """
    talk = Talk(context, home, office, mint, as_json)
    seed = None
    if seed_file is not None:
        try:
            seed = seed_file.read_text("ascii")[:1024]
        except (OSError, UnicodeDecodeError):
            raise InvalidInput("the seed file cannot be read") from None

    async def work(client: AsyncClient) -> tuple[int, int]:
        return await client.stamps.restore(seed, on_progress=talk.progress), await client.stamps.balance()

    restored, left = talk.run(work)
    talk.say(f"Found {stamps(restored)}; the wallet has {left}.")
    talk.result({"restored": restored, "balance": left}, "")


@app.command("connect", cls=Command)
def connect(
    context: typer.Context,
    link: Annotated[str | None, typer.Argument(metavar="[LINK|-]", help="Asked for, or read from stdin.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep the link of a Lightning wallet in the home; from then on it pays and is paid where a command needs one.

    Best without naming the link: command lines are remembered. `pennypost keys encrypt` encrypts it too.

    Examples:

      pennypost wallet connect
      pennypost wallet connect < wallet.link
    """
    from pennypost.lightning import MAX_LINK, keep_link

    talk = Talk(context, home, as_json=as_json)
    if link is None or link == "-":
        asked = sys.stdin.isatty()
        link = typer.prompt("Link", hide_input=True, err=True) if asked else sys.stdin.readline(MAX_LINK + 1)
    keep_link(talk.place(), str(link))
    talk.result({"connected": True}, "")
    talk.say("The wallet is connected; `pennypost doctor` looks at it.")


@app.command("disconnect", cls=Command)
def disconnect(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Forget the Lightning wallet's link. Revoke it in the wallet too where others may have seen it.

    Examples:

      pennypost wallet disconnect
    """
    from pennypost.home import LINK

    talk = Talk(context, home, as_json=as_json)
    there = talk.place().remove(LINK)
    talk.result({"connected": False}, "")
    talk.say("The wallet's link is forgotten." if there else "No wallet was connected.")
