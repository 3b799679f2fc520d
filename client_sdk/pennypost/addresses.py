"""Addresses with a scan key apart from the npub, and how they are told to others.

    make ─▶ nprofile1… (npub, office, scan key)      told by hand, as a QR code, in a profile
    publish ─▶ kind 10050 (NIP-17: where our mail is read) with ["scan", …] ──find──▶ nprofile1…
    scan_key ─▶ ppscan1… for a watcher (watcher.py)

Once made, letters are looked for under both keys: who knows the npub alone goes on writing to it.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Sequence
from typing import Final

from pennypost.desk import Desk
from pennypost.line import refusal
from pennypost.mail import ACCEPTED, REASON, Receipt, sum_offices
from pennypost.office import Office
from pennypost.outbox import ANSWER
from pennypost.protocol import nip19, secp
from pennypost.protocol.errors import InvalidKey, PennypostError
from pennypost.protocol.event import Event, is_hex64, sign_event, tag_value
from pennypost.protocol.scan_key import ScanKey, encode_scan_key, scan_secret_of
from pennypost.protocol.stealth import Address

KIND_MAIL_RELAYS: Final = 10_050
NAMED: Final = 4
"""Offices that an address names, so that it stays short enough for a QR code."""


class Addresses:
    """The addresses of one identity at its offices."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def make(self) -> str:
        """Our address with the scan key, as an nprofile: other programs read the npub out of it.

        From now on letters to it are looked for too, which doubles the cost of a scan. Raises HomeUnusable.
        """
        await self._desk.store.run(use_scan_key_on, self._desk.identity.pub, self._desk.now())
        key = self._key()
        return self._text(Address(key.spend, secp.xonly(key.secret)))

    async def scan_key(self) -> str:
        """The scan key, `ppscan1…`: whoever has it sees which letters to our address are ours, for ever, and no more.

        Letters to the npub alone it does not find. Raises HomeUnusable.
        """
        await self.make()
        return encode_scan_key(self._key())

    async def publish(self, *, patience: float = ANSWER) -> Receipt:
        """Publish under our npub that our mail is read at these offices, and the scan key (kind 10050; free).

        Programs with NIP-17 look for it before they write. It takes the place of such an event of ours at each office,
        and shows everyone that our npub is read there. A refusal is in the receipt's `error`; `relays` has each. Raises
        OfficeUnreachable, also after `patience` seconds without an answer, where no office answers.
        """
        await self.make()
        event = sign_event(
            self._desk.identity.secret,
            created_at=self._desk.now(),
            kind=KIND_MAIL_RELAYS,
            tags=[
                *(["relay", _relay(each)] for each in self._desk.offices),
                ["scan", secp.xonly(self._key().secret).hex()],
            ],
            content="",
            aux=secrets.token_bytes(32),
        )
        done = await asyncio.gather(
            *(_publish(each, event, patience) for each in self._desk.offices), return_exceptions=True
        )
        receipts: list[Receipt] = []
        for office, each in zip(self._desk.offices, done, strict=True):
            if isinstance(each, Receipt):
                receipts.append(each)
            elif isinstance(each, PennypostError):
                receipts.append(Receipt(event.id, office.url, False, each.code, 0, 0))
            else:
                raise each
        if not any(isinstance(each, Receipt) for each in done):
            assert isinstance(done[0], PennypostError)
            raise done[0]
        return sum_offices(receipts)

    async def find(self, who: str) -> str:
        """The address that somebody published at our offices, the newest; the npub where he published none.

        The offices see that somebody asks for it. Raises as `People.key`, OfficeUnreachable, OfficeMisbehaves.
        """
        pub = await self._desk.people.key(who)
        scan = _newest_scan(await self._desk.published(pub, KIND_MAIL_RELAYS))
        return nip19.encode_npub(pub) if scan is None else self._text(Address(pub, scan))

    def _key(self) -> ScanKey:
        identity = self._desk.identity
        return ScanKey(scan_secret_of(identity.secret), identity.pub)

    def _text(self, found: Address) -> str:
        relays = tuple(_relay(each) for each in self._desk.offices[:NAMED])
        return nip19.encode(nip19.Entity("nprofile", found.spend, relays, scan=found.scan))


def _relay(office: Office) -> str:
    # An address of HTTP made one of WebSocket: http to ws, https to wss.
    return f"ws{office.url.removeprefix('http')}/"


async def _publish(office: Office, event: Event, patience: float) -> Receipt:
    # Without a stamp: the kind is free at a post office, which does not say so in its information document.
    answer = await office.post(event, None, patience)
    error = None if answer.accepted else refusal(answer.message)
    code = error.code if error else ACCEPTED
    return Receipt(event.id, office.url, answer.accepted, code, 0, 0, answer.message[:REASON])


def _newest_scan(events: Sequence[Event]) -> bytes | None:
    """The scan key of the event that counts (NIP-01: the newest, of equals the lowest id)."""
    for event in sorted(events, key=lambda each: (-each.created_at, each.id))[:1]:
        found = tag_value(event, "scan")
        if found is not None and is_hex64(found):
            try:
                secp.lift_x(bytes.fromhex(found))
            except InvalidKey:
                return None
            return bytes.fromhex(found)
    return None


def use_scan_key_on(connection: sqlite3.Connection, pub: bytes, now: int) -> None:
    """Letters to this key's scan key are looked for from now on."""
    connection.execute(
        "INSERT INTO scan_keys (pub, made_at) VALUES (?, ?) ON CONFLICT (pub) DO NOTHING", (pub.hex(), now)
    )


def uses_scan_key_on(connection: sqlite3.Connection, pub: bytes) -> bool:
    """Whether letters to this key's scan key are looked for."""
    return connection.execute("SELECT 1 FROM scan_keys WHERE pub = ?", (pub.hex(),)).fetchone() is not None
