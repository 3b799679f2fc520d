"""The verbs of sessions; the package says how they work together."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Final

import msgspec

from pennypost.desk import Desk
from pennypost.letters import note_of
from pennypost.mail import Mail, Receipt
from pennypost.outbox import PATIENCE
from pennypost.protocol import nip19
from pennypost.protocol.errors import InvalidInput, NoSession, PennypostError
from pennypost.protocol.event import Event, sign_event, tag_value
from pennypost.protocol.giftwrap import Rumor
from pennypost.protocol.stealth import lifetime
from pennypost.sessions import KIND_PREKEYS, KIND_SESSION, book
from pennypost.sessions.prekeys import Prekeys, encode_prekeys, parse_prekeys, sign_prekeys
from pennypost.sessions.ratchet import Agreement, Device, Ratchet, Repeated, Sealed, Unreadable

ROTATE: Final = 30 * 86_400
"""Seconds after which the signed prekey is replaced; it is kept for as long again, for letters are kept 30 days."""
KEEP: Final = 30 * 86_400

_Hex64 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z", max_length=64)]
_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
_Text = Annotated[str, msgspec.Meta(max_length=24 * 1024)]


class _Agreement(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the side that was written to first needs to agree on the session (X3DH)."""

    ephemeral: _Hex64
    signed: _Hex64
    once: _Hex64 | None = None


class _Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a rumor of KIND_SESSION holds: a message, a lost session (`reset`), or prekeys (`keys`)."""

    to: _Hex64
    by: _Hex64
    session: _Hex64 | None = None
    ratchet: _Hex64 | None = None
    previous: _Count = 0
    number: _Count = 0
    body: _Text | None = None
    agreement: _Agreement | None = None
    reset: _Hex64 | None = None
    keys: Annotated[str, msgspec.Meta(max_length=2_048)] | None = None


_decoder: Final = msgspec.json.Decoder(_Message)
_agreements: Final = msgspec.json.Decoder(_Agreement)
_EVERY: Final = "0" * 64
"""In `to`: every device of the receiver."""


class Sessions:
    """The sessions of one home, at its offices."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._turn = asyncio.Lock()
        """One message is opened at a time: two offices may bring the same one at once."""

    async def publish(self, *, once: str | None = None, dry_run: bool = False, patience: float = PATIENCE) -> Receipt:
        """Publish this device's signed prekey at every office, so that others can begin a session; once a month is
        enough.

        Nothing is published or paid twice, as `AsyncClient.send` says, and `once` is one of its keys. With `dry_run`
        nothing is sent or spent: `stamps` say what it would cost. Raises as `AsyncClient.send`.
        """
        desk, identity = self._desk, self._desk.identity

        async def seal() -> list[Event]:
            prekeys = await self._prekeys(once=False, dry_run=dry_run)
            tags = [["d", prekeys.device], ["expiration", str(desk.now() + KEEP)]]
            event = sign_event(
                identity.secret,
                created_at=desk.now(),
                kind=KIND_PREKEYS,
                tags=tags,
                content=encode_prekeys(prekeys),
                aux=secrets.token_bytes(32),
            )
            return [event]

        if dry_run:
            return await desk.dispatch.price(await seal())
        note = note_of(identity.secret, identity.pub, once, "prekeys")
        return await desk.dispatch.send(replace(note, receiver=""), seal, patience)

    async def word(self) -> str:
        """This device's prekeys with a one-time key, as a word `pps1…` for one person: show it as a QR code."""
        return encode_prekeys(await self._prekeys(once=True))

    async def introduce(
        self, to: str, *, once: str | None = None, dry_run: bool = False, patience: float = PATIENCE
    ) -> Receipt:
        """Send `word` sealed to somebody, who can then begin. `once`, `dry_run` and errors as of `publish`."""
        pub = await self._desk.people.key(to)

        async def seal() -> list[Event]:
            prekeys = await self._prekeys(once=True, dry_run=dry_run)
            return [self._letter(pub, _Message(_EVERY, prekeys.device, keys=encode_prekeys(prekeys)), KEEP)]

        if dry_run:
            return await self._desk.dispatch.price(await seal())
        note = note_of(self._desk.identity.secret, pub, once, "introduction")
        return await self._desk.dispatch.send(note, seal, patience)

    async def meet(self, word: str) -> str:
        """Take the word that somebody has shown: their npub. Raises InvalidInput."""
        prekeys = parse_prekeys(word)
        await self._desk.store.run(book.keep_prekeys_on, prekeys)
        return nip19.encode_npub(bytes.fromhex(prekeys.owner))

    async def addresses(self, who: str) -> list[str]:
        """The devices of somebody that a message would go to: `<npub>#<8 digits>`. Raises InvalidKey."""
        pub = await self._desk.people.key(who)
        found = {row.device for row in await self._desk.store.run(book.newest_on, pub.hex())}
        found |= {each.device for each in await self._known(pub)}
        return [_address(pub.hex(), device) for device in sorted(found)]

    async def forget(self, who: str, device: str | None = None) -> int:
        """Drop sessions and prekeys of somebody, or of one device (the digits after `#`): how many sessions.

        For one who has lost his device; the next message begins anew. Raises InvalidKey.
        """
        pub = await self._desk.people.key(who)
        return await self._desk.store.run(book.drop_on, pub.hex(), device or "")

    async def send(
        self, to: str, text: str, *, keep: int = KEEP, once: str | None = None, patience: float = PATIENCE
    ) -> list[Receipt]:
        """Write to every device of somebody, in its session or in a new one: a receipt for each.

        Nothing is sent twice, as `AsyncClient.send` says, and `once` is one of its keys. Raises NoSession where nothing
        is known of their devices, and as `AsyncClient.send`.
        """
        pub = await self._desk.people.key(to)
        note = note_of(self._desk.identity.secret, pub, once, "session", text, lifetime(keep))
        receipt = await self._desk.dispatch.send(note, lambda: self.letters(to, text, keep=keep), patience)
        return list(receipt.relays)

    async def letters(self, to: str, text: str, *, keep: int = KEEP, dry_run: bool = False) -> list[Event]:
        """A letter for every device of somebody, ready to be posted; their keys are used up with it.

        With `dry_run` no key is used up, and the letters are good for nothing but their size. Raises NoSession,
        InvalidKey, LetterTooLarge.
        """
        pub, lasting = await self._desk.people.key(to), lifetime(keep)
        rows = await self._desk.store.run(book.newest_on, pub.hex())
        written = [await self._next(row, text, dry_run) for row in rows]
        met = {message.to for message in written}
        for prekeys in await self._known(pub, dry_run=dry_run):
            if prekeys.device not in met:
                written.append(await self._begin(prekeys, text, dry_run))
        if not written:
            raise NoSession
        return [self._letter(pub, message, lasting) for message in written]

    async def take(self, sender: bytes, rumor: Rumor, event: Event, kept_until: int) -> Mail | None:
        """The message in a rumor of KIND_SESSION to us; None for what is no message, or for another device.

        What was opened before and not read is given again; what was read, nobody opens any more.
        """
        try:
            message = _decoder.decode(rumor.content)
        except (msgspec.DecodeError, RecursionError):
            return None
        async with self._turn:
            return await self._take(sender, message, rumor, event, kept_until)

    async def _take(self, sender: bytes, message: _Message, rumor: Rumor, event: Event, kept_until: int) -> Mail | None:
        device, _ = await self._device()
        peer = sender.hex()
        if message.to not in (device.name.hex(), _EVERY) or message.by == device.name.hex():
            return None
        if message.keys is not None:
            await self._introduced(peer, message.keys)
        if message.reset is not None:
            await self._desk.store.run(book.forget_on, peer, message.by, message.reset)
        if message.body is None or message.session is None or message.ratchet is None:
            return None
        found = await self._desk.store.run(book.received_on, event.id)
        if found is None:
            try:
                await self._open(peer, message, event.id, rumor.created_at)
            except Repeated:
                return None
            except Unreadable:
                await self._lost(peer, message.by, message.session)
                return None
            found = await self._desk.store.run(book.received_on, event.id)
            assert found is not None
        text, sent_at, by = found
        office = self._desk.offices[0].url
        return Mail(nip19.encode_npub(sender), text, sent_at, kept_until, event.id, office, address=_address(peer, by))

    async def read(self, event_id: str) -> None:
        """A message was read: it is forgotten."""
        await self._desk.store.run(book.read_on, event_id)

    # Our own keys

    async def _device(self, *, dry_run: bool = False) -> tuple[Device, int]:
        """With `dry_run` a device that there is not yet is made up, and not kept."""
        while (saved := await self._desk.store.run(book.own_on)) is None:
            if dry_run:
                return Device.new(), 0
            await self._desk.store.run(book.save_own_on, Device.new().save(), 0)
        return Device.load(saved[0]), saved[1]

    async def _prekeys(self, *, once: bool, dry_run: bool = False) -> Prekeys:
        """Our prekeys, with a one-time key that is kept, or with `dry_run` one that is only of its size."""
        identity = self._desk.identity
        while True:
            device, version = await self._device(dry_run=dry_run)
            changed = device.rotate(ROTATE)
            fresh = device.fresh() if once else None
            kept = dry_run or not (changed or once)
            if kept or await self._desk.store.run(book.save_own_on, device.save(), version):
                aux = secrets.token_bytes(32)
                return sign_prekeys(device.bundle, fresh, identity.secret, self._desk.now(), aux)

    # Writing

    async def _known(self, pub: bytes, *, dry_run: bool = False) -> list[Prekeys]:
        """Prekeys that were given to us, else those that are published at our offices: of each device the newest."""
        known = await self._desk.store.run(book.prekeys_on, pub.hex())
        if known:
            return known[: book.DEVICES]
        own, _ = await self._device(dry_run=dry_run)
        found: dict[str, Prekeys] = {}
        for event in await self._desk.published(pub, KIND_PREKEYS):
            with suppress(InvalidInput):
                prekeys = parse_prekeys(event.content)
                fits = prekeys.owner == pub.hex() and prekeys.device == tag_value(event, "d")
                if fits and prekeys.device != own.name.hex() and prekeys.once is None:
                    before = found.get(prekeys.device, prekeys)
                    found[prekeys.device] = max(before, prekeys, key=lambda each: each.made_at)
        return list(found.values())[: book.DEVICES]

    async def _begin(self, prekeys: Prekeys, text: str, dry_run: bool) -> _Message:
        device, _ = await self._device(dry_run=dry_run)
        try:
            shared, names, agreement = await device.agree(prekeys.bundle(), _names(self._own(), prekeys.owner))
        except Unreadable:
            raise InvalidInput("the session keys of this person cannot be used") from None
        ratchet, sealed = await Ratchet.begin(shared, agreement.signed_pre_key, names, text.encode())
        once = None if agreement.pre_key is None else agreement.pre_key.hex()
        sent = _Agreement(agreement.ephemeral_key.hex(), agreement.signed_pre_key.hex(), once)
        row = book.SessionRow(
            prekeys.owner,
            prekeys.device,
            sent.ephemeral,
            names,
            ratchet.save(),
            msgspec.json.encode(sent),
            0,
            self._desk.now(),
        )

        def save(connection: sqlite3.Connection) -> None:
            book.save_on(connection, row)
            if prekeys.once is not None:
                book.used_prekeys_on(connection, prekeys)

        if not dry_run:
            await self._desk.store.run(save)
        return _message(row, device.name.hex(), sealed, sent)

    async def _next(self, row: book.SessionRow, text: str, dry_run: bool) -> _Message:
        """The next message of a session; its state is saved before anything is sent, so no key is used twice."""
        device, _ = await self._device(dry_run=dry_run)
        while True:
            ratchet = Ratchet.load(row.state, row.names)
            sealed = await ratchet.encrypt(text.encode())
            if dry_run or await self._desk.store.run(book.save_on, replace(row, state=ratchet.save())):
                agreement = None if row.agreement is None else _agreements.decode(row.agreement)
                return _message(row, device.name.hex(), sealed, agreement)
            again = await self._desk.store.run(book.session_on, row.peer, row.device, row.id)
            if again is None:
                raise NoSession("it ended meanwhile")
            # Another program of this home was faster, so one of us goes on each time.
            row = again

    async def _post(self, pub: bytes, message: _Message, keep: int, patience: float) -> Receipt:
        return await self._desk.post(self._letter(pub, message, keep), patience)

    def _letter(self, pub: bytes, message: _Message, keep: int) -> Event:
        content = msgspec.json.encode(message).decode()
        return self._desk.letter(pub, content, kind=KIND_SESSION, keep=keep).event

    def _own(self) -> str:
        return self._desk.identity.pub.hex()

    # Reading

    async def _introduced(self, peer: str, word: str) -> None:
        with suppress(InvalidInput):
            prekeys = parse_prekeys(word)
            if prekeys.owner == peer:
                await self._desk.store.run(book.keep_prekeys_on, prekeys)

    async def _open(self, peer: str, message: _Message, event_id: str, sent_at: int) -> None:
        """Open a message; state and text are saved in one transaction. Raises Unreadable, Repeated."""
        sealed = _sealed(message)
        assert message.session is not None
        while True:
            row = await self._desk.store.run(book.session_on, peer, message.by, message.session)
            device, version = await self._device()
            dropped = False
            if row is not None:
                ratchet = Ratchet.load(row.state, row.names)
                text = await ratchet.decrypt(sealed)
            else:
                ratchet, text, names = await self._answer(device, peer, message, sealed)
                row = book.SessionRow(peer, message.by, message.session, names, "", None, 0, 0)
                if message.agreement is not None and message.agreement.once is not None:
                    device.drop(bytes.fromhex(message.agreement.once))
                    dropped = True
            # Heard from: the other side has the session, so the agreement need not be sent along any more.
            moved = replace(row, state=ratchet.save(), agreement=None, used_at=self._desk.now())
            shown = text.decode("utf-8", "replace")

            def save(
                connection: sqlite3.Connection,
                moved: book.SessionRow = moved,
                shown: str = shown,
                own: str | None = device.save() if dropped else None,
                version: int = version,
            ) -> bool:
                if own is not None and not book.save_own_on(connection, own, version):
                    return False
                if not book.save_on(connection, moved):
                    raise _Faster
                book.receive_on(connection, event_id, shown, sent_at, moved.device)
                return True

            with suppress(_Faster):
                if await self._desk.store.run(save):
                    return

    async def _answer(
        self, device: Device, peer: str, message: _Message, sealed: Sealed
    ) -> tuple[Ratchet, bytes, bytes]:
        """The session that the other side has begun. Raises Unreadable."""
        sent = message.agreement
        if sent is None or sent.ephemeral != message.session:
            raise Unreadable
        agreement = Agreement(
            bytes.fromhex(message.by),
            bytes.fromhex(sent.ephemeral),
            bytes.fromhex(sent.signed),
            None if sent.once is None else bytes.fromhex(sent.once),
        )
        shared, names, own = await device.agree_with(agreement, _names(peer, self._own()))
        ratchet, text = await Ratchet.answer(shared, own, names, sealed)
        return ratchet, text, names

    async def _lost(self, peer: str, device: str, session: str) -> None:
        """Tell the other side, once, that we do not have this session; where that fails, with the next one."""
        await self._desk.store.run(book.lost_on, peer, device, session)
        own, _ = await self._device()
        for peer, device, session in await self._desk.store.run(book.untold_on):
            message = _Message(device, own.name.hex(), reset=session, keys=await self.word())
            try:
                receipt = await self._post(bytes.fromhex(peer), message, KEEP, 0)
            except PennypostError:
                return
            if receipt.accepted:
                await self._desk.store.run(book.told_on, peer, device, session)


class _Faster(Exception):
    """Another program of this home moved the session on: nothing was written."""


def _names(first: str, second: str) -> bytes:
    """Both npubs, the one that began first: bound into the session."""
    return bytes.fromhex(first + second)


def _address(peer: str, device: str) -> str:
    return f"{nip19.encode_npub(bytes.fromhex(peer))}#{device[:8]}"


def _message(row: book.SessionRow, own: str, sealed: Sealed, agreement: _Agreement | None) -> _Message:
    return _Message(
        row.device,
        own,
        row.id,
        sealed.ratchet.hex(),
        sealed.previous,
        sealed.number,
        b64encode(sealed.ciphertext).decode(),
        agreement,
    )


def _sealed(message: _Message) -> Sealed:
    """Raises Unreadable."""
    assert message.ratchet is not None and message.body is not None
    try:
        body = b64decode(message.body, validate=True)
    except (Base64Error, ValueError):
        raise Unreadable from None
    return Sealed(bytes.fromhex(message.ratchet), message.previous, message.number, body)
