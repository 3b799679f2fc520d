"""`pennypost wallet`: stamps bought, counted, handed on, checked."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pennypost.cli.exit_codes import exit_code
from pennypost.cli.plugins import Command
from pennypost.cli.talk import (
    HomeOption,
    JsonOption,
    LightningOption,
    MintOption,
    OfficeOption,
    QrOption,
    Talk,
    explain,
    plain,
    stamps,
    when,
)
from pennypost.protocol.errors import InvalidInput, OfficeUnreachable, PennypostError

if TYPE_CHECKING:
    from pennypost.client import AsyncClient
    from pennypost.ledger import Balance
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
    qr: QrOption = True,
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
        talk.draw(purchase.request, qr and link is None)
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


@app.command("balance", cls=Command)
def balance(
    context: typer.Context,
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count the stamps in the wallet, by mint where there are several. Asks nobody.

    Examples:

      pennypost wallet balance
      pennypost wallet balance --json
    """
    talk = Talk(context, home, office, mint, as_json)

    async def work(client: AsyncClient) -> tuple[str, dict[str, Balance]]:
        return client.stamps.mint.url, await client.purse.balances()

    own, found = talk.run(work)
    counted = [{"mint": url, "balance": each.stamps} | _places(each) for url, each in found.items()]
    several = "\n".join(f"{each.stamps:>8}  {url}" for url, each in found.items())
    talk.result(
        {"balance": found[own].stamps, **_places(found[own]), "unit": "sat", "mints": counted},
        several if len(found) > 1 else str(found[own].stamps),
    )
    for place, where in (
        ("reserved", "on letters that wait for an answer"),
        ("in_tokens", "in tokens that you made"),
        ("in_flight", "in a swap without an answer; `pennypost wallet check` finishes it"),
    ):
        count = sum(_places(each)[place] for each in found.values())
        if count:
            talk.say(f"Besides, {stamps(count)} {where}.")


def _places(balance: Balance) -> dict[str, int]:
    return {"reserved": balance.reserved, "in_tokens": balance.in_tokens, "in_flight": balance.in_flight}


@app.command("send", cls=Command)
def send(
    context: typer.Context,
    amount: Amount,
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
    memo: Annotated[str | None, typer.Option("--memo", help="A note inside the token.")] = None,
    form: Annotated[
        Literal["cashuA", "cashuB"],
        typer.Option("--format", help="cashuA: the older form, longer, for wallets that read no other."),
    ] = "cashuB",
    qr: QrOption = False,
) -> None:
    """Print a token (cashuB…) worth N stamps. Whoever has its text has the stamps.

    Examples:

      pennypost wallet send 5
      pennypost wallet send 5 --json
      pennypost wallet send 5 --format cashuA
    """
    talk = Talk(context, home, office, mint, as_json)
    token = talk.run(lambda client: client.stamps.send(amount, memo=memo, format=form))
    talk.draw(token, qr)
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
    """Make the stamps of somebody's token yours, by a swap at its mint, which must be yours: `wallet mints add URL`.

    Examples:

      pennypost wallet receive cashuB…
      pennypost wallet receive - < token.txt
    """
    talk = Talk(context, home, office, mint, as_json)
    text = sys.stdin.read(1 << 20) if token == "-" else token

    async def work(client: AsyncClient) -> tuple[int, int]:
        received = await client.purse.receive(text)
        return received, sum(each.stamps for each in (await client.purse.balances()).values())

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
    """Hold the wallet against each of its mints: finish what is open, forget what is spent, list tokens nobody took.

    Examples:

      pennypost wallet check
      pennypost wallet check --json
    """
    talk = Talk(context, home, office, mint, as_json)
    problem: PennypostError | None = None
    for url, found in talk.run(lambda client: client.purse.check(on_progress=talk.progress)).items():
        if isinstance(found, PennypostError):
            problem = problem or found
            talk.say(f"{plain(url)}: {explain(found)}")
            talk.result({"mint": url, "error": found.code}, "")
            continue
        talk.result(
            {"mint": url, **asdict(found), "balance": found.stamps}, f"{stamps(found.stamps)}, unspent at {url}."
        )
        if found.recovered:
            talk.say(f"{stamps(found.recovered)} came in that had been paid for or swapped before.")
        if found.lost:
            talk.say(f"{stamps(found.lost)} had been spent elsewhere, and are forgotten now.")
        for token in found.tokens:
            talk.say(f"Nobody has taken this token of {stamps(token.amount)}; to take it back, receive it:")
            talk.say(token.token)
        if found.problems:
            talk.say(f"Not settled: {', '.join(found.problems)}. Nothing of it is lost; run the same command later.")
            problem = problem or OfficeUnreachable()
    if problem is not None:
        raise typer.Exit(exit_code(problem))


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
    """Find the stamps of this wallet's seed at its mints again, after its database was lost.

    Mints other than the office's own are in the lost database too: add them first, with `wallet mints add URL`.

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

    async def work(client: AsyncClient) -> tuple[dict[str, int | PennypostError], int]:
        restored = await client.purse.restore(seed, on_progress=talk.progress)
        return restored, sum(each.stamps for each in (await client.purse.balances()).values())

    found, left = talk.run(work)
    failed = {url: each for url, each in found.items() if isinstance(each, PennypostError)}
    for url, error in failed.items():
        talk.say(f"{plain(url)}: {explain(error)}")
    restored = sum(each for each in found.values() if isinstance(each, int))
    talk.say(f"Found {stamps(restored)}; the wallet has {left}.")
    codes = {"failed": {url: each.code for url, each in failed.items()}} if failed else {}
    talk.result({"restored": restored, "balance": left} | codes, "")
    if failed:
        raise typer.Exit(exit_code(next(iter(failed.values()))))


mints = typer.Typer(help="The mints whose stamps this wallet takes: list, add, remove.", no_args_is_help=True)
app.add_typer(mints, name="mints")


@mints.command("list", cls=Command)
def list_(
    context: typer.Context,
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the known mints, the office's own first. Asks nobody.

    Examples:

      pennypost wallet mints list
      pennypost wallet mints list --json
    """
    talk = Talk(context, home, office, mint, as_json)
    for url, found in talk.run(lambda client: client.purse.balances()).items():
        talk.result({"mint": url, "balance": found.stamps}, url)


@mints.command("add", cls=Command)
def add(
    context: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="The mint.")],
    home: HomeOption = None,
    office: OfficeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take stamps of this mint from now on. What they are worth is that mint's word: add those that you trust.

    Examples:

      pennypost wallet mints add https://mint.example
      pennypost wallet buy 10 --mint https://mint.example
    """
    talk = Talk(context, home, office, as_json=as_json)
    added = talk.run(lambda client: client.purse.add(url))
    talk.result({"mint": added}, added)


@mints.command("remove", cls=Command)
def remove(
    context: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="The mint.")],
    home: HomeOption = None,
    office: OfficeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget a mint of which there are no stamps here.

    Examples:

      pennypost wallet mints remove https://mint.example
    """
    talk = Talk(context, home, office, as_json=as_json)
    talk.run(lambda client: client.purse.remove(url))
    talk.result({"removed": url}, "")


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
