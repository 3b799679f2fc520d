"""`pennypost doctor`: what is wrong between here and a post office, each point with its remedy."""

from __future__ import annotations

import stat
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pennypost.cli import front
from pennypost.cli.exit_codes import OTHER, exit_code
from pennypost.cli.talk import (
    HomeOption,
    JsonOption,
    LightningOption,
    MintOption,
    OfficeOption,
    Talk,
    explain,
    plain,
    sats,
)
from pennypost.home import DATABASE, RING, SECRETS, Home
from pennypost.protocol.errors import HomeHalfEncrypted, PennypostError, WalletCannot, WalletRefuses, WrongClock
from pennypost.protocol.relay_info import read_postage
from pennypost.transport import parse_address

if TYPE_CHECKING:
    from pennypost.client import AsyncClient

CLOCK: Final = 300
"""Seconds that this clock and the mint's may differ."""

Point = tuple[str, Callable[["AsyncClient"], Awaitable[str]]]


def doctor(
    context: typer.Context,
    url: Annotated[
        str | None, typer.Argument(metavar="[URL]", help="The post office (default: each of --office).")
    ] = None,
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
    nwc: LightningOption = None,
) -> None:
    """Look at everything between this home and a post office, and say what is wrong and what to do.

    Without URL each office of --office is looked at, one after the other; --mint belongs to the first.

    TLS, a proxy in front of it (Upgrade not passed on, frames held back, a cache, another address), its prices and
    feed, the mint's keys, the clock, and the modes of the home's files.

    A Lightning wallet is looked at where one is named (--nwc, PENNYPOST_WALLET_FILE); nothing is paid.

    Examples:

      pennypost doctor
      pennypost doctor https://post.example --json
      pennypost doctor --nwc wallet.link
    """
    talk = Talk(context, home, url or office, mint, as_json)
    link = talk.link(nwc)

    async def work(client: AsyncClient) -> int:
        worst = 0
        at = client.office.url
        for name, look in (*POINTS, *([("wallet", _wallet)] if link and at == first else [])):
            try:
                found, code, good = await look(client), "ok", True
            except PennypostError as error:
                found, code, good = explain(error), error.code, False
                worst = worst or exit_code(error)
            mark = "good" if good else "BAD "
            said = {"office": at, "point": name, "good": good, "code": code, "found": found}
            talk.result(said, f"{mark}  {name}: {found}")
        return worst

    worst = 0
    offices = list(
        dict.fromkeys(parse_address(each) for each in talk.office.replace(",", " ").split() or [talk.office])
    )
    first = offices[0]
    for each in offices:
        talk.office = each
        if len(offices) > 1:
            talk.say(each)
        found = talk.run(work, lightning=link)
        worst = worst or found
        talk.mint = None
    half = talk.place().left_in_clear()
    if half:
        error = HomeHalfEncrypted(", ".join(half))
        said = {"point": "home", "good": False, "code": error.code, "found": explain(error)}
        talk.result(said, f"BAD   home: {explain(error)}")
        worst = worst or exit_code(error)
    for sentence in _modes(talk.place()):
        talk.result({"point": "home", "good": False, "code": "home", "found": sentence}, f"BAD   home: {sentence}")
        worst = worst or OTHER
    raise typer.Exit(worst)


async def _office(client: AsyncClient) -> str:
    asked = read_postage(await client.office.information(int(time.time()), within=0))
    if not asked.sat:
        return f"{client.office.url} asks no stamp for a letter"
    return plain(f"{client.office.url} asks {asked.sat} sat for a letter, of {', '.join(asked.mints)}")


async def _feed(client: AsyncClient) -> str:
    return f"answers, with {len(await client.office.headers(0))} headers at its beginning"


async def _mint(client: AsyncClient) -> str:
    keyset = await client.stamps.mint.active(int(time.time()))
    await client.stamps.mint.keysets(refresh=True)
    return f"{client.stamps.mint.url} signs with {keyset.id[:16]}…, and its ids fit its keys"


async def _clock(client: AsyncClient) -> str:
    theirs = (await client.stamps.mint.info()).time
    if theirs is not None and abs(theirs - time.time()) > CLOCK:
        raise WrongClock
    return "agrees with the mint's" if theirs is not None else "not compared: the mint does not tell its time"


async def _wallet(client: AsyncClient) -> str:
    try:
        return f"answers, and can spend {sats(await client.payments.wallet.balance())}"
    except (WalletCannot, WalletRefuses):
        return "answers; it does not say what it can spend"


POINTS: Final[tuple[Point, ...]] = (
    ("tls", front.tls),
    ("way", front.passes),
    ("post office", _office),
    ("header feed", _feed),
    ("connection", front.websocket),
    ("mint", _mint),
    ("clock", _clock),
)


def _modes(home: Home) -> list[str]:
    if home.path is None:
        return []
    wrong: list[str] = []
    for name in (*SECRETS, RING, DATABASE):
        file = home.path / name
        if file.exists() and stat.S_IMODE(file.stat().st_mode) & 0o077:
            wrong.append(f"{name} can be read by others: chmod 600 it")
    return wrong
