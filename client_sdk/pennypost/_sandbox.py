"""A mint, a post office and play money in this process, without network: for trying things and for tests.

    office = sandbox()                     finds the server part through the entry point group `pennypost.sandbox`
    Client(office)                         speaks to it through memory (asgi.py)

The servers are the real ones. The SDK imports neither: without the extra `server` there is a sentence instead.
"""

from __future__ import annotations

import atexit
from collections.abc import Awaitable
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Protocol, cast

from pennypost.asgi import App, AsgiTransport
from pennypost.protocol.errors import ServerExtraMissing
from pennypost.threads import LoopThread
from pennypost.transport import Transport, parse_address

if TYPE_CHECKING:
    from pennypost.lightning import Wallet
    from pennypost.play import PlayBook

GROUP = "pennypost.sandbox"


class Office(Protocol):
    """What the server part hands over: an application and its life."""

    url: str

    @property
    def asgi(self) -> App:
        """The ASGI 3 application; asked for between start and stop."""
        ...

    def start(self) -> Awaitable[object]:
        """Open databases, start tasks."""
        ...

    def stop(self) -> Awaitable[object]:
        """End tasks, close databases."""
        ...


class Sandbox:
    """A running office. Close it, or leave its `with` block; at exit it closes itself."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._thread = LoopThread("pennypost-sandbox")
        self._open = True
        self._book: PlayBook | None = None
        atexit.register(self.close)
        try:
            self._thread.call(_await(office.start()))
        except BaseException:
            self._end()
            raise

    @property
    def url(self) -> str:
        """The address that its stamps and letters name; it exists in this process alone."""
        return parse_address(self._office.url)

    def transport(self) -> Transport:
        """A way to it through memory."""
        return AsgiTransport(self._office.asgi, self.url, self._thread.loop)

    def wallet(self) -> Wallet:
        """A fresh Lightning wallet with a million sat of play money; all of one sandbox can pay each other."""
        from pennypost.play import PlayBook

        if self._book is None:
            self._book = PlayBook()
        return self._book.wallet()

    def close(self) -> None:
        """Stop the office and its thread; closing twice is harmless."""
        if self._open:
            try:
                self._thread.call(_await(self._office.stop()))
            finally:
                self._end()

    def _end(self) -> None:
        self._open = False
        if self._book is not None:
            self._book.close()
        atexit.unregister(self.close)
        self._thread.stop()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Sandbox({self.url!r})"


def sandbox() -> Sandbox:
    """Start a post office with its mint and play money in this process. Raises ServerExtraMissing."""
    found = list(entry_points(group=GROUP))
    if not found:
        raise ServerExtraMissing
    return Sandbox(cast("Office", load(found[0])()))


def load(entry: EntryPoint) -> Any:
    """The object of an entry point. Raises ServerExtraMissing when a package of the extra is not installed."""
    try:
        return entry.load()
    except ModuleNotFoundError as error:
        # A module of ours that is absent is a fault of the installation, to be seen as it is.
        if (error.name or "").split(".")[0] in ("pennypost", "pennypost_mint", "pennypost_postoffice"):
            raise
        raise ServerExtraMissing from None


async def _await(work: Awaitable[object]) -> None:
    await work
