"""What commands share: the options that work everywhere, and how results, talk and progress are shown.

Results go to stdout, as text or as JSON lines; everything meant for a person's eyes goes to stderr. What strangers
wrote is shown without the characters that drive a terminal.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import sys
import unicodedata
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from pennypost.home import Home, default_home, passphrase_of_environment
from pennypost.lightning import read_link
from pennypost.protocol.errors import OfficeUnreachable, PennypostError

if TYPE_CHECKING:
    from pennypost.client import AsyncClient
    from pennypost.sync import Client

OFFICE: Final = "http://127.0.0.1:3338"

HomeOption = Annotated[
    str | None, typer.Option("--home", metavar="DIR", help="Keys and wallet (default: PENNYPOST_HOME).")
]
OfficeOption = Annotated[
    str | None,
    typer.Option("--office", metavar="URL", help=f"The post office (default: PENNYPOST_OFFICE, else {OFFICE})."),
]
MintOption = Annotated[str | None, typer.Option("--mint", metavar="URL", help="The mint (default: the office's own).")]
LightningOption = Annotated[
    str | None,
    typer.Option(
        "--nwc",
        "--lightning",
        metavar="LINK|FILE",
        help="The Lightning wallet: a file with its link, or the link itself (default: PENNYPOST_WALLET_FILE, else the"
        " one of `pennypost wallet connect`).",
    ),
]
QrOption = Annotated[
    bool, typer.Option("--qr/--no-qr", help="Draw it as a QR code too, on a terminal alone.", show_default=True)
]
WatchOption = Annotated[bool, typer.Option("--watch", "--follow", help="Go on, and show what comes as it comes.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout, people's talk on stderr.")]

BAR: Final = 20
"""Characters of a progress bar."""
T = TypeVar("T")


@dataclass
class Defaults:
    """Options given before the command."""

    home: str | None = None
    office: str | None = None
    mint: str | None = None
    as_json: bool = False


class Talk:
    """Where one command writes, and the client it uses."""

    def __init__(
        self,
        context: typer.Context,
        home: str | None = None,
        office: str | None = None,
        mint: str | None = None,
        as_json: bool = False,
    ) -> None:
        given = context.find_object(Defaults) or Defaults()
        self.home = home or given.home
        self.office = office or given.office or OFFICE
        self.mint = mint or given.mint
        self.as_json = as_json or given.as_json
        self._progress = False

    def result(self, value: dict[str, Any], text: str) -> None:
        """One result: a line of JSON, or text for people. Nothing is printed for an empty text."""
        self._end_progress()
        if self.as_json:
            print(json.dumps(value), flush=True)
        elif text:
            print(text, flush=True)

    def say(self, sentence: str) -> None:
        """Something a person should know."""
        self._end_progress()
        print(sentence, file=sys.stderr, flush=True)

    def draw(self, text: str, wanted: bool) -> None:
        """A QR code, on a terminal alone; BOLT11 in upper case, whose alphabet makes it a third smaller."""
        if not wanted or not sys.stderr.isatty():
            return
        import segno

        try:
            code = segno.make(text.upper() if text.startswith("ln") else text, error="l", micro=False)
        except segno.DataOverflowError:
            self.say("It is too long for a QR code.")
            return
        self._end_progress()
        code.terminal(out=sys.stderr, compact=True)

    def progress(self, what: str, done: int, total: int) -> None:
        """How far long work has come, as a bar where its end is known; on a terminal alone."""
        if sys.stderr.isatty():
            print(f"\r\x1b[K{what} {bar(done, total)}", end="", file=sys.stderr, flush=True)
            self._progress = True

    def _end_progress(self) -> None:
        if self._progress:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._progress = False

    def place(self) -> Home:
        """The home, whose passphrase is asked for when it is needed."""
        return Home(self.home or default_home(), self.passphrase)

    def passphrase(self) -> str | None:
        """What opens an encrypted home: from the environment, else asked for on a terminal."""
        given = passphrase_of_environment()
        if given is None and sys.stdin.isatty():
            self._end_progress()
            given = getpass.getpass("Passphrase of the home: ", stream=sys.stderr)
        return given

    def link(self, named: str | None) -> str | None:
        """The Lightning wallet's link: named here, in the environment, or kept in the home."""
        return read_link(named, self.place())

    def run(self, work: Callable[[AsyncClient], Awaitable[T]], **options: Any) -> T:
        """Run `work` with a client made from the options, and close it."""
        from pennypost.client import AsyncClient

        async def session() -> T:
            async with AsyncClient(
                self.offices(), self.home, mint=self.mint, notice=self.say, passphrase=self.passphrase, **options
            ) as client:
                return await work(client)

        with self._looking_closer():
            return asyncio.run(session())

    @contextmanager
    def client(self, **options: Any) -> Generator[Client]:
        """A client made from the options, whose loop is not this thread's: for a command that waits for its stdin."""
        from pennypost.sync import Client

        with (
            self._looking_closer(),
            Client(
                self.offices(), self.home, mint=self.mint, notice=self.say, passphrase=self.passphrase, **options
            ) as made,
        ):
            yield made

    def offices(self) -> str | list[str]:
        """The addresses named, each apart."""
        return self.office.replace(",", " ").split() or self.office

    @contextmanager
    def _looking_closer(self) -> Generator[None]:
        try:
            yield
        except OfficeUnreachable:
            self.say(f"Tried {plain(self.office)}; `pennypost doctor` looks closer.")
            raise
        finally:
            self._end_progress()


def bar(done: int, total: int) -> str:
    """`[####------] 4/10`; the count alone where no end is known."""
    if total <= 0:
        return f"… {done}"
    full = BAR * max(0, min(done, total)) // total
    return f"[{'#' * full}{'-' * (BAR - full)}] {done}/{total}"


def called(npub: str, contact: str) -> str:
    """Somebody as a person reads it: what we call them, and the npub; the npub alone for a stranger."""
    return f"{plain(contact)} ({npub})" if contact else npub


def plain(text: str) -> str:
    """A stranger's text without what drives a terminal: control characters, and marks that turn its direction."""
    return "".join(
        each if each in "\n\t" or unicodedata.category(each) not in ("Cc", "Cf", "Cs", "Co", "Cn") else "�"
        for each in text
    )


def when(seconds: int) -> str:
    """A Unix time in this machine's zone; the number where no calendar has it."""
    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):
        return str(seconds)


def stamps(count: int) -> str:
    """`1 stamp`, `2 stamps`."""
    return f"{count} stamp{'' if count == 1 else 's'}"


def sats(msat: int) -> str:
    """An amount in msat as `21 sat`, `0.5 sat`: exact."""
    whole, rest = divmod(msat, 1_000)
    return f"{whole}{f'.{rest:03}'.rstrip('0') if rest else ''} sat"


def explain(error: PennypostError) -> str:
    """Sentence and remedy, as a person reads them."""
    return f"{plain(str(error))}. {error.remedy}"
