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
from pennypost.lightning import open_wallet
from pennypost.protocol import nip47
from pennypost.protocol.errors import (
    HomeHalfEncrypted,
    InvalidWalletLink,
    PennypostError,
    WalletCannot,
    WalletRefuses,
    WrongClock,
)
from pennypost.protocol.relay_info import read_postage
from pennypost.transport import NetworkTransport, parse_address

if TYPE_CHECKING:
    from pennypost.client import AsyncClient

CLOCK: Final = 300
"""Seconds that this clock and theirs may differ."""

NEEDED: Final = {
    nip47.PAY_INVOICE: "it pays nothing",
    nip47.MAKE_INVOICE: "nobody can pay it",
    nip47.LOOKUP_INVOICE: "what became of a payment cannot be asked",
}
"""Methods of NIP-47 without which something here does not work, and what."""

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

    TLS, a proxy in front of it (Upgrade not passed on, frames held back, a cache, another address, bodies cut off or
    replaced), its prices and feed, the mint's keys, the clock, and the modes of the home's files.

    A Lightning wallet is looked at where one is named (--nwc, PENNYPOST_WALLET_FILE): whether it answers, and lets
    this connection do what is needed; nothing is paid.

    Examples:

      pennypost doctor
      pennypost doctor https://post.example --json
      pennypost doctor --nwc wallet.link
    """
    talk = Talk(context, home, url or office, mint, as_json)
    link, broken = _link(talk, nwc)

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
    if broken is not None:
        said = {"point": "wallet", "good": False, "code": broken.code, "found": explain(broken)}
        talk.result(said, f"BAD   wallet: {explain(broken)}")
        worst = worst or exit_code(broken)
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


def _link(talk: Talk, named: str | None) -> tuple[str | None, InvalidWalletLink | None]:
    """The wallet's link, or what is wrong with it: that keeps nobody from looking at the rest."""
    try:
        link = talk.link(named)
        if link is not None:
            open_wallet(link, NetworkTransport())
    except InvalidWalletLink as error:
        return None, error
    return link, None


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
    told = (("the mint", (await client.stamps.mint.info()).time), ("the post office", await front.date(client)))
    for whose, theirs in told:
        ahead = 0 if theirs is None else time.time() - theirs
        if abs(ahead) > CLOCK:
            side = "ahead of" if ahead > 0 else "behind"
            raise WrongClock(f"this machine is {round(abs(ahead) / 60)} minutes {side} {whose}")
    compared = [whose for whose, theirs in told if theirs is not None]
    return f"agrees with {' and '.join(compared)}" if compared else "not compared: nobody tells the time"


async def _wallet(client: AsyncClient) -> str:
    from pennypost.nwc import NwcWallet

    wallet = client.payments.wallet
    if isinstance(wallet, NwcWallet):
        offered = await wallet.methods()
        lacks = [f"no {name}, so {why}" for name, why in NEEDED.items() if offered and name not in offered]
        if lacks:
            raise WalletCannot("; ".join(lacks))
    try:
        return f"answers, and can spend {sats(await wallet.balance())}"
    except (WalletCannot, WalletRefuses):
        return "answers; it does not say what it can spend"


POINTS: Final[tuple[Point, ...]] = (
    ("tls", front.tls),
    ("way", front.passes),
    ("post office", _office),
    ("header feed", _feed),
    ("connection", front.websocket),
    ("bodies", front.bodies),
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
