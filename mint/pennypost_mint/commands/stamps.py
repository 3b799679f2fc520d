"""Commands that decide what is signed: stamps given away, another keyset, the end of sales."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

import typer

from pennypost_mint.commands.talk import Json, run, say, show, when
from pennypost_mint.runtime.settings import load_settings


def issue(
    amount: Annotated[int, typer.Argument(metavar="N", min=1, help="Stamps of 1 sat.")],
    reference: Annotated[
        str | None, typer.Option(help="Names these stamps; repeated with it, the command prints the same token.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Give stamps away without Lightning: prints a cashuB token that any wallet receives. Booked apart from sales.

    The reference is said before anything is made. When the command is cut off, run it again with that reference and
    number: the same token comes out, whatever had happened. Until somebody receives the token, whoever can use the
    mint's seed and this reference can make it too.

    Examples:

      pennypost mint issue 100 > welcome.token
      pennypost mint issue 100 --reference meetup-2026-11 --json
    """
    from pennypost_mint.operate.opening import opened
    from pennypost_mint.operate.promotions import issue as give

    settings = load_settings()
    named = reference or secrets.token_hex(8)
    say(f"Reference {named}: run it again with --reference {named} if this breaks off.")

    async def work() -> tuple[str, bool]:
        async with opened(settings) as database:
            return await give(database, settings, amount, named)

    token, fresh = run(work())
    if not fresh:
        say("These stamps were issued before; this is their token again.")
    show({"token": token, "amount": amount, "reference": named, "fresh": fresh, "unit": "sat"}, token, as_json)


def rotate(
    final_expiry: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="When stamps of the new keyset become worthless: 2031-12-31, or Unix time."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Sign with a new keyset from now on. Stamps of the old one stay good; running servers follow within a second.

    Wallets that still ask for the old keyset are answered 12002, fetch the keysets and go on. With --final-expiry the
    new keyset's stamps can no longer be used after that day (UTC): announce it, for unused balances end there.

    Examples:

      pennypost mint rotate
      pennypost mint rotate --final-expiry 2031-12-31 --json
    """
    from pennypost_mint.operate import rotation
    from pennypost_mint.operate.opening import opened

    settings = load_settings()
    expiry = None if final_expiry is None else rotation.expiry_of(final_expiry)

    async def work() -> Any:
        async with opened(settings) as database:
            return await rotation.rotate(database, settings, expiry)

    made = run(work())
    result = {"id": made.id, "position": made.position, "unit": made.unit, "final_expiry": made.final_expiry}
    show(result, f"{made.id} signs from now on", as_json)


def sunset(
    resume: Annotated[bool, typer.Option("--resume", help="Sell again.")] = False,
    as_json: Json = False,
) -> None:
    """Sell no more stamps. What is out stays good, what was paid is still given out, and /v1/info says so.

    Examples:

      pennypost mint sunset
      pennypost mint sunset --resume
    """
    from pennypost_mint.operate import rotation
    from pennypost_mint.operate.opening import opened

    async def work() -> int | None:
        async with opened(load_settings()) as database:
            return await rotation.sunset(database, resume=resume)

    since = run(work())
    sentence = "This mint sells stamps." if since is None else f"This mint sells no more since {when(since)}."
    show({"selling": since is None, "sunset": since}, sentence, as_json)
