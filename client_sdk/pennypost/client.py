"""The asynchronous client: one person, one home, one post office with its mint, or several.

AsyncClient(office, home=…)
    .stamps            buy, balance, send, receive, check, restore          stamps.py
    .purse             the same at every mint of the home                   purse.py
    .npub              who we are, made on first need                       keys.py
    .send(to, text)    stealth wrap ─▶ outbox ─▶ Receipt                    dispatch.py, outbox.py
    .outbox()          what has no answer yet; .flush() sends it            dispatch.py
    .drop(event_id)    gives one up, with its stamps                        drop.py
    .contacts          whom we know, whom we do not hear                    contacts.py
    .inbox()           header feed ─▶ Mail, Mail, …                         inbox.py, nip17.py
    .addresses         make, publish, find: a scan key apart                addresses.py
    .sessions          publish, word, meet, send                                sessions/
    .channels          create, invite, post, read                               channels/
    .payments          Lightning payments, each payment hash once           payments.py
    .paid              messages with their payment                          paid_mail.py
    .offers            texts for sale                                       offers.py
    .notices           payments that tell of a letter                       notices.py
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, Literal

from pennypost.addresses import Addresses, uses_scan_key_on
from pennypost.channels import Channels
from pennypost.contacts import Contacts
from pennypost.desk import Desk
from pennypost.dispatch import Dispatch
from pennypost.drop import Dropped, drop
from pennypost.ecash_lock import EcashLocks
from pennypost.exchange import Progress
from pennypost.home import Home, default_home
from pennypost.inbox import Inbox
from pennypost.keys import Identity, load_identity, new_identity, scan_key_of
from pennypost.letters import Waiting, note_of
from pennypost.lightning import Wallet, open_wallet
from pennypost.mail import Mail, Mode, Privacy, Receipt
from pennypost.mint_client import MintClient
from pennypost.nip17 import PlainInbox
from pennypost.notices import Notices
from pennypost.offers import Offers
from pennypost.office import Office
from pennypost.outbox import PATIENCE, Outbox
from pennypost.paid_mail import PaidMail
from pennypost.payments import Payments
from pennypost.people import People
from pennypost.protocol import nip19, secp
from pennypost.protocol.errors import InvalidInput, InvalidKey, KeyExists, SessionsMissing
from pennypost.protocol.event import Event
from pennypost.protocol.giftwrap import RANDOMNESS, make_rumor
from pennypost.protocol.nip17 import SHIFT, message_tags, wrap_message
from pennypost.protocol.relay_info import read_postage
from pennypost.protocol.scan_key import scan_secret_of
from pennypost.protocol.stealth import Address, lifetime, wrap_letter
from pennypost.purse import Purse
from pennypost.store import Store
from pennypost.together import together
from pennypost.transport import NetworkTransport, Transport, parse_address

if TYPE_CHECKING:
    from pennypost._sandbox import Sandbox
    from pennypost.sessions.sessions import Sessions

DAY: Final = 86_400
KEEP: Final = 30 * DAY
"""Seconds that a letter is kept unless told otherwise."""
OFFICES: Final = 16
"""The most post offices of one client."""
MAX_STAMPS: Final = 64
"""The most that one letter may cost unless told otherwise, in sat."""


class AsyncClient:
    """Buys stamps, sends letters, reads mail, in one event loop. Close it, or use it with `async with`."""

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
        transport: Transport | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`office` is an address, several, or a sandbox. Everything goes to each of several, and is read at each.

        `home` is the directory of keys and wallet: by default that of the person (`PENNYPOST_HOME`), with a sandbox
        memory alone. `mint` is the address of the mint, by default the office's own. `max_stamps` bounds what one
        letter may cost. `notice` is told, in sentences, what a person should know: new keys, a new wallet. `lightning`
        is the Lightning wallet or its link (see lightning.py); with a sandbox, by default, a fresh one of play money.
        `passphrase` opens an encrypted home, or is called for it (by default that of the environment).

        Nothing is dialled and nothing written before it is needed. Raises InvalidInput for an address that is none.
        """
        if isinstance(office, (str, Sequence)):
            self._home = Home(default_home() if home is None else home, passphrase)
            urls, self._transport = _addresses(office), transport or NetworkTransport()
            self._network = self._transport
        else:
            self._home = Home(home, passphrase)
            urls, self._transport = [office.url], transport or office.transport()
            lightning = office.wallet() if lightning is None else lightning
            # The sandbox is reached through memory; wallets, and relays that others name, never are.
            self._network = NetworkTransport()
        url = urls[0]
        # A wallet that was handed over is its owner's to close.
        self._own_wallet = open_wallet(lightning, self._network) if isinstance(lightning, str) else None
        self._lightning = self._own_wallet if isinstance(lightning, str) else lightning
        self._notice, self._clock = notice, clock
        self._store = Store(self._home)
        self.people = People(self._store, self._network, clock, self._tell)
        """Names of people, and whose they are."""
        self.contacts = Contacts(self._store, self.people, clock)
        """Whom we know, and whom we do not want to hear."""
        self.offices = [Office(each, self._transport, self._store) for each in urls]
        """Where everything goes and comes from."""
        self.office = self.offices[0]
        """The first: whose mint sells our stamps."""
        mint_client = MintClient(
            parse_address(mint) if mint else url,
            self._transport,
            self._store,
            None if mint else self._named(self.office),
        )
        self.payments = Payments(self._store, lambda: self._lightning, clock)
        """Lightning payments, each payment hash once."""
        self.purse = Purse(
            self._home, self._store, self._transport, self.payments, mint_client, notice=notice, clock=clock
        )
        """The wallet over all its mints."""
        exchange = self.purse.use(mint_client)
        under_way = self._under_way = set[str]()
        outboxes = [Outbox(self.office, exchange, self.purse, max_stamps, under_way)]
        for other in self.offices[1:]:
            theirs = MintClient(other.url, self._transport, self._store, self._named(other))
            outboxes.append(Outbox(other, self.purse.use(theirs), self.purse, max_stamps, under_way))

        def open_relay(url: str, most: int) -> Outbox:
            return Outbox(Office(url, self._network, self._store), exchange, self.purse, most, under_way)

        dispatch = self._dispatch = Dispatch(
            outboxes, self._store, exchange.now, self._tell, under_way, max_stamps, open_relay
        )
        self._identity: Identity | None = None
        desk = self._desk = Desk(
            self.offices, self._store, dispatch, lambda: self.identity, self.people, self.contacts, clock, self._tell
        )
        self.channels = Channels(desk)
        """Channels of this home."""
        self.addresses = Addresses(desk)
        """Addresses with a scan key apart from the npub."""
        self._sessions: Sessions | None = None
        self.paid = PaidMail(desk, self.payments)
        """Messages with their payment."""
        self.offers = Offers(desk, self.payments, EcashLocks(exchange))
        """Texts for sale."""
        self.stamps = self.purse.stamps_of(exchange)
        """Stamps of the office's own mint."""
        self.notices = Notices(desk, self.payments, self._network)
        """Payments that tell of a letter."""

    def _named(self, office: Office) -> Callable[[], Awaitable[tuple[str, ...]]]:
        """Asks for the mints whose stamps an office takes, for one that stands apart from its mint (NIP-11, fees)."""

        async def named() -> tuple[str, ...]:
            return read_postage(await office.information(int(self._clock()))).mints

        return named

    @property
    def npub(self) -> str:
        """Who we are: what to tell others."""
        return self.identity.npub

    @property
    def sessions(self) -> Sessions:
        """Sessions of this device. Raises SessionsMissing where they are not installed."""
        if self._sessions is None:
            try:
                from pennypost.sessions.sessions import Sessions
            except ModuleNotFoundError as error:
                if (error.name or "").startswith("pennypost"):
                    raise
                raise SessionsMissing from None
            self._sessions = Sessions(self._desk)
        return self._sessions

    @property
    def identity(self) -> Identity:
        """The home's key pair, made on first need. Raises HomeUnusable."""
        if self._identity is None:
            self._identity = load_identity(self._home)
        if self._identity is None:
            try:
                self._identity = new_identity(self._home)
            except KeyExists:
                # Another thread or process made them at the same moment.
                self._identity = load_identity(self._home)
                if self._identity is None:
                    raise
            else:
                if self._home.path is not None:
                    self._tell(f"Made new keys in {self._home.path}: {self._identity.npub}")
        return self._identity

    def _tell(self, sentence: str) -> None:
        if self._notice is not None:
            self._notice(sentence)

    async def send(
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
        """Send a letter that only `to` (npub, nprofile, hex or name@domain) can find and open.

        It is kept for `keep` seconds, rounded up to an hour, a day, a week or 30 days, and padded to 1, 4 or 16 KiB.
        The receipt says what the office answered; a refusal is in its `error`. Letters that an earlier run left
        without an answer are sent first.

        With `mode="nip17"` it is written as other programs read it (NIP-17), and its receiver is visible. `reply_to` is
        the `message_id` of the letter it answers, `subject` a new title of the conversation.

        With `session` it is encrypted by keys used once (Double Ratchet) to each device of the receiver, with a stamp
        each; the receipt sums them up. With `dry_run` nothing is sent or spent: `stamps` say what it would cost.

        Nothing is sent twice: a letter that is still in the outbox, after an error or a crash, goes on with its stamp
        when the same text is sent to the same person again. With a key of your own (`once`, 1 to 200 characters) this
        holds for a year and after the answer too: the same call again says `duplicate` and costs nothing. Two programs
        of one home that send the same text to the same person at once send one letter; give each a key to send two.

        With `jitter` it is sealed and sent after a random time of up to so many seconds (at most an hour), so that its
        time does not tell who was at the keyboard.

        It goes to every office of this client, with a stamp at each; the receipt sums them up (`relays` has each). One
        that does not answer gets it later.

        Raises InvalidKey, LetterTooLarge, OnceUsed, NoSession, SessionsMissing, NotEnoughStamps, PriceTooHigh, and then
        nothing was sent; OfficeUnreachable, ServerError or TooMany after `patience` seconds: the letter is in the
        outbox then where it was stamped, and goes with the next.
        """
        receiver, scan, lasting = await self.people.key(to), scan_key_of(to), lifetime(keep)
        if session and (mode != "stealth" or subject or reply_to):
            raise InvalidInput("a session has no other mode, no subjects and no replies")
        tags = message_tags(receiver, subject=subject, reply_to=reply_to)
        if dry_run:
            letters = self.sessions.letters(to, text, keep=lasting, dry_run=True) if session else None
            events = [self._wrap(receiver, scan, text, lasting, mode, tags)] if letters is None else await letters
            return await self._dispatch.price(events)

        async def seal() -> list[Event]:
            if session:
                return await self.sessions.letters(to, text, keep=lasting)
            return [self._wrap(receiver, scan, text, lasting, mode, tags)]

        secret = self.identity.secret
        note = note_of(secret, receiver, once, text, lasting, session, mode, subject, reply_to)
        return await self._dispatch.send(note, seal, patience, on_progress, jitter)

    async def who(self, name: str, *, accept: bool = False) -> str:
        """The npub of somebody named by npub, nprofile, hex, or `name@domain` (NIP-05; its server is asked once a day).

        `accept` takes the key that the name stands for now. Raises as People.key.
        """
        return nip19.encode_npub(await self.people.key(name, accept=accept))

    async def flush(self, *, patience: float = PATIENCE) -> list[Receipt]:
        """Send what is still in the outbox: the receipts of what has an answer now."""
        return await self._dispatch.flush(patience)

    async def outbox(self) -> list[Waiting]:
        """Letters that have no answer yet, the oldest first; asks nobody."""
        return await self._dispatch.waiting()

    async def drop(self, event_id: str) -> list[Dropped]:
        """Give up a letter of the outbox (its `event_id`) at every office that has not answered: what came back.

        It is not sent again. Its stamps are looked up at their mint: what the office took is gone, and it has the
        letter then; the rest is given back, all of it where the mint does not answer, to be swapped before use. Raises
        NotFound, InvalidInput while it is being sent.
        """
        return await drop(self._store, self.purse, event_id, frozenset(self._under_way))

    async def inbox(
        self,
        *,
        watch: bool = False,
        again: bool = False,
        privacy: Privacy = "fast",
        mode: Mode | Literal["both"] = "stealth",
        contacts_only: bool = False,
        on_progress: Progress | None = None,
    ) -> AsyncGenerator[Mail]:
        """Letters to us, in the order they came, from where the last run stopped; of all offices, each letter once.

        `mode` says which: those by stealth, those of programs with NIP-17, or both. The latter are asked for by our
        npub, and where the office wants it we sign in: it learns who we are, which stealth never tells it.

        Letters of people who are blocked are passed over, with `contacts_only` those of all but contacts (`contacts`).

        `watch` waits for more and never ends; `again` shows everything that the office still keeps. A letter counts as
        read when the next one is asked for. Raises OfficeUnreachable, OfficeMisbehaves.
        """
        modes: tuple[Mode, ...] = ("stealth", "nip17") if mode == "both" else (mode,)
        sources = [
            (office.url, self._read(office, each, watch, again, privacy, contacts_only, on_progress))
            for office in self.offices
            for each in modes
        ]
        async with aclosing(sources[0][1] if len(sources) == 1 else together(sources, self._tell)) as letters:
            async for mail in letters:
                yield mail

    async def _read(
        self,
        office: Office,
        mode: Mode,
        watch: bool,
        again: bool,
        privacy: Privacy,
        contacts_only: bool,
        on_progress: Progress | None,
    ) -> AsyncGenerator[Mail]:
        async def shows(sender: bytes) -> bool:
            return sender == self.identity.pub or await self.contacts.shows(sender, only=contacts_only)

        if mode == "nip17":
            plain = PlainInbox(office, self._store, self.identity, self._clock)
            try:
                async with aclosing(plain.read(watch=watch, again=again, on_progress=on_progress)) as letters:
                    async for mail in letters:
                        if await shows(nip19.parse_public_key(mail.sender)):
                            yield await self.paid.mark(mail)
            finally:
                await plain.close()
            return
        identity = self.identity
        scan = scan_secret_of(identity.secret) if await self._store.run(uses_scan_key_on, identity.pub) else None
        reader = Inbox(office, self._store, identity, self._clock, lambda: self.sessions, shows, scan)
        letters = reader.read(watch=watch, again=again, privacy=privacy, on_progress=on_progress)
        try:
            async with aclosing(letters):
                async for mail in letters:
                    yield await self.paid.mark(mail)
        finally:
            reader.close()

    def _wrap(
        self, receiver: bytes, scan: bytes | None, text: str, keep: int, mode: Mode, tags: list[list[str]]
    ) -> Event:
        now, identity = int(self._clock()), self.identity
        rumor = make_rumor(identity.pub, created_at=now, content=text, tags=tags)
        while True:
            # Fresh for every letter; a key that does not fit chances once in 2^128.
            one_time, randomness = secrets.token_bytes(32), secrets.token_bytes(RANDOMNESS)
            try:
                secp.lift_x(receiver)
                if mode == "nip17":
                    return wrap_message(
                        rumor,
                        identity.secret,
                        receiver,
                        one_time,
                        sealed_at=now - secrets.randbelow(SHIFT),
                        created_at=now - secrets.randbelow(SHIFT),
                        now=now,
                        keep=keep,
                        randomness=randomness,
                    )
                return wrap_letter(
                    rumor,
                    identity.secret,
                    Address(receiver, scan or receiver),
                    one_time,
                    created_at=now,
                    expiration=now + keep,
                    randomness=randomness,
                )
            except InvalidKey:
                if secp.valid_secret(one_time):
                    raise

    async def close(self) -> None:
        """Close connections and files; closing twice is harmless."""
        for office in self.offices:
            await office.close()
        if self._own_wallet is not None:
            await self._own_wallet.close()
        await self._network.close()
        await self._transport.close()
        await self._store.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        urls = ", ".join(each.url for each in self.offices)
        return f"{type(self).__name__}({urls!r}, home={str(self._home.path) if self._home.path else None!r})"


def _addresses(office: str | Sequence[str]) -> list[str]:
    """The addresses of the offices, each once. Raises InvalidInput."""
    urls = list(dict.fromkeys(parse_address(each) for each in ([office] if isinstance(office, str) else office)))
    if not 0 < len(urls) <= OFFICES:
        raise InvalidInput(f"a client has 1 to {OFFICES} post offices")
    return urls
