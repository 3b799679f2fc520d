"""The sync face: `Client` is `AsyncClient` with an event loop in a thread of its own.

Every method runs the coroutine of the same name over there and waits for it here.
"""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from pennypost.addresses import Addresses as AsyncAddresses
from pennypost.client import KEEP, MAX_STAMPS, AsyncClient
from pennypost.contacts import Contact
from pennypost.contacts import Contacts as AsyncContacts
from pennypost.drop import Dropped
from pennypost.exchange import Progress
from pennypost.ledger import Balance
from pennypost.letters import Waiting
from pennypost.lightning import Wallet
from pennypost.mail import Mail, Mode, Privacy, Receipt
from pennypost.orders import Purchase
from pennypost.outbox import ANSWER, PATIENCE
from pennypost.protocol.errors import PennypostError
from pennypost.purse import Purse as AsyncPurse
from pennypost.stamps import Check, TokenFormat
from pennypost.stamps import Stamps as AsyncStamps
from pennypost.sync.channels import Channels
from pennypost.sync.sessions import Sessions
from pennypost.sync.trade import Notices, Offers, PaidMail
from pennypost.threads import LoopThread

if TYPE_CHECKING:
    from pennypost._sandbox import Sandbox


class Client:
    """Buys stamps, sends letters, reads mail. Close it, or use it with `with`."""

    def __init__(
        self,
        office: str | Sandbox | Sequence[str],
        home: str | os.PathLike[str] | None = None,
        *,
        mint: str | None = None,
        max_stamps: int = MAX_STAMPS,
        notice: Callable[[str], None] | None = None,
        lightning: str | Wallet | None = None,
        passphrase: str | Callable[[], str | None] | None = None,
    ) -> None:
        """As AsyncClient."""
        self._client = AsyncClient(
            office,
            home,
            mint=mint,
            max_stamps=max_stamps,
            notice=notice,
            lightning=lightning,
            passphrase=passphrase,
        )
        self._thread = LoopThread("pennypost-client")
        self.stamps = Stamps(self._client.stamps, self._thread)
        """Stamps of the office's own mint."""
        self.purse = Purse(self._client.purse, self._thread)
        """The wallet over all its mints."""
        self.paid = PaidMail(self._client.paid, self._thread)
        """Messages with their payment."""
        self.offers = Offers(self._client.offers, self._thread)
        """Texts for sale."""
        self.notices = Notices(self._client.notices, self._thread)
        """Payments that tell of a letter."""
        self.addresses = Addresses(self._client.addresses, self._thread)
        """Addresses with a scan key apart from the npub."""
        self.channels = Channels(self._client.channels, self._thread)
        """Channels of this home."""
        self.contacts = Contacts(self._client.contacts, self._thread)
        """Whom we know, and whom we do not want to hear."""
        # Given up without being closed, it ends by itself; so it does at exit, before a sandbox made earlier.
        self._at_exit = _stopper(self._thread)
        atexit.register(self._at_exit)
        self._last = weakref.finalize(self, _end, self._client, self._thread, self._at_exit)
        self._last.atexit = False

    @property
    def npub(self) -> str:
        """As AsyncClient.npub."""
        return self._client.npub

    @property
    def sessions(self) -> Sessions:
        """As AsyncClient.sessions."""
        return Sessions(self._client, self._thread)

    def send(
        self,
        to: str,
        text: str,
        *,
        keep: int = KEEP,
        mode: Mode = "stealth",
        subject: str = "",
        reply_to: str = "",
        session: bool = False,
        once: str | None = None,
        jitter: float = 0.0,
        dry_run: bool = False,
        patience: float = PATIENCE,
        on_progress: Progress | None = None,
    ) -> Receipt:
        """As AsyncClient.send."""
        return self._thread.call(
            self._client.send(
                to,
                text,
                keep=keep,
                mode=mode,
                subject=subject,
                reply_to=reply_to,
                session=session,
                once=once,
                jitter=jitter,
                dry_run=dry_run,
                patience=patience,
                on_progress=on_progress,
            )
        )

    def who(self, name: str, *, accept: bool = False) -> str:
        """As AsyncClient.who."""
        return self._thread.call(self._client.who(name, accept=accept))

    def flush(self, *, patience: float = PATIENCE) -> list[Receipt]:
        """As AsyncClient.flush."""
        return self._thread.call(self._client.flush(patience=patience))

    def outbox(self) -> list[Waiting]:
        """As AsyncClient.outbox."""
        return self._thread.call(self._client.outbox())

    def drop(self, event_id: str) -> list[Dropped]:
        """As AsyncClient.drop."""
        return self._thread.call(self._client.drop(event_id))

    def inbox(
        self,
        *,
        watch: bool = False,
        again: bool = False,
        privacy: Privacy = "fast",
        mode: Mode | Literal["both"] = "stealth",
        contacts_only: bool = False,
        on_progress: Progress | None = None,
    ) -> Iterator[Mail]:
        """As AsyncClient.inbox."""
        letters = self._client.inbox(
            watch=watch,
            again=again,
            privacy=privacy,
            mode=mode,
            contacts_only=contacts_only,
            on_progress=on_progress,
        )

        async def next_letter() -> Mail | None:
            return await anext(letters, None)

        try:
            while (mail := self._thread.call(next_letter())) is not None:
                yield mail
        finally:
            # Not waited for: a generator may be given up anywhere, also in the loop's own thread.
            self._thread.start(letters.aclose())

    def close(self) -> None:
        """As AsyncClient.close."""
        self._last.detach()
        atexit.unregister(self._at_exit)
        if self._thread.running:
            self._thread.call(self._client.close())
            self._thread.stop()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._client).removeprefix("Async")


def _end(client: AsyncClient, thread: LoopThread, at_exit: Callable[[], None]) -> None:
    atexit.unregister(at_exit)
    thread.finish(client.close())


def _stopper(thread: LoopThread) -> Callable[[], None]:
    def stop() -> None:
        # Not more than that: at exit no work is started in threads any more, and what was written is durable.
        thread.stop()

    return stop


class Contacts:
    """The sync face of pennypost.contacts.Contacts."""

    def __init__(self, contacts: AsyncContacts, thread: LoopThread) -> None:
        self._contacts, self._thread = contacts, thread

    def add(self, who: str, name: str = "") -> Contact:
        """As pennypost.contacts.Contacts.add."""
        return self._thread.call(self._contacts.add(who, name))

    def block(self, who: str, name: str = "") -> Contact:
        """As pennypost.contacts.Contacts.block."""
        return self._thread.call(self._contacts.block(who, name))

    def remove(self, who: str) -> bool:
        """As pennypost.contacts.Contacts.remove."""
        return self._thread.call(self._contacts.remove(who))

    def name(self, npub: str) -> str:
        """As pennypost.contacts.Contacts.name."""
        return self._thread.call(self._contacts.name(npub))

    def all(self) -> list[Contact]:
        """As pennypost.contacts.Contacts.all."""
        return self._thread.call(self._contacts.all())


class Addresses:
    """The sync face of pennypost.addresses.Addresses."""

    def __init__(self, addresses: AsyncAddresses, thread: LoopThread) -> None:
        self._addresses, self._thread = addresses, thread

    def make(self) -> str:
        """As pennypost.addresses.Addresses.make."""
        return self._thread.call(self._addresses.make())

    def scan_key(self) -> str:
        """As pennypost.addresses.Addresses.scan_key."""
        return self._thread.call(self._addresses.scan_key())

    def publish(self, *, patience: float = ANSWER) -> Receipt:
        """As pennypost.addresses.Addresses.publish."""
        return self._thread.call(self._addresses.publish(patience=patience))

    def find(self, who: str) -> str:
        """As pennypost.addresses.Addresses.find."""
        return self._thread.call(self._addresses.find(who))


class Stamps:
    """The sync face of pennypost.stamps.Stamps."""

    def __init__(self, stamps: AsyncStamps, thread: LoopThread) -> None:
        self._stamps, self._thread = stamps, thread

    def buy(
        self,
        amount: int,
        *,
        on_invoice: Callable[[Purchase], None] | None = None,
        on_progress: Progress | None = None,
        timeout: float | None = None,
        pay: bool = False,
    ) -> Purchase:
        """As pennypost.stamps.Stamps.buy."""
        return self._thread.call(
            self._stamps.buy(amount, on_invoice=on_invoice, on_progress=on_progress, timeout=timeout, pay=pay)
        )

    def order(self, amount: int) -> Purchase:
        """As pennypost.stamps.Stamps.order."""
        return self._thread.call(self._stamps.order(amount))

    def balance(self) -> int:
        """As pennypost.stamps.Stamps.balance."""
        return self._thread.call(self._stamps.balance())

    def summary(self) -> Balance:
        """As pennypost.stamps.Stamps.summary."""
        return self._thread.call(self._stamps.summary())

    def send(self, amount: int, *, memo: str | None = None, format: TokenFormat = "cashuB") -> str:
        """As pennypost.stamps.Stamps.send."""
        return self._thread.call(self._stamps.send(amount, memo=memo, format=format))

    def receive(self, token: str) -> int:
        """As pennypost.stamps.Stamps.receive."""
        return self._thread.call(self._stamps.receive(token))

    def check(self, *, on_progress: Progress | None = None) -> Check:
        """As pennypost.stamps.Stamps.check."""
        return self._thread.call(self._stamps.check(on_progress=on_progress))

    def restore(self, seed: str | None = None, *, on_progress: Progress | None = None) -> int:
        """As pennypost.stamps.Stamps.restore."""
        return self._thread.call(self._stamps.restore(seed, on_progress=on_progress))


class Purse:
    """The sync face of pennypost.purse.Purse."""

    def __init__(self, purse: AsyncPurse, thread: LoopThread) -> None:
        self._purse, self._thread = purse, thread

    def mints(self) -> list[str]:
        """As pennypost.purse.Purse.mints."""
        return self._thread.call(self._purse.mints())

    def add(self, mint: str) -> str:
        """As pennypost.purse.Purse.add."""
        return self._thread.call(self._purse.add(mint))

    def remove(self, mint: str) -> None:
        """As pennypost.purse.Purse.remove."""
        self._thread.call(self._purse.remove(mint))

    def at(self, mint: str | None = None) -> Stamps:
        """As pennypost.purse.Purse.at."""
        return Stamps(self._thread.call(self._purse.at(mint)), self._thread)

    def balances(self) -> dict[str, Balance]:
        """As pennypost.purse.Purse.balances."""
        return self._thread.call(self._purse.balances())

    def receive(self, token: str) -> int:
        """As pennypost.purse.Purse.receive."""
        return self._thread.call(self._purse.receive(token))

    def check(self, *, on_progress: Progress | None = None) -> dict[str, Check | PennypostError]:
        """As pennypost.purse.Purse.check."""
        return self._thread.call(self._purse.check(on_progress=on_progress))

    def restore(
        self, seed: str | None = None, *, on_progress: Progress | None = None
    ) -> dict[str, int | PennypostError]:
        """As pennypost.purse.Purse.restore."""
        return self._thread.call(self._purse.restore(seed, on_progress=on_progress))
