"""A post office as a client speaks to it: what it asks, its header feed, its letters.

    information NIP-11 ─▶ price        headers, page ─▶ HTTP        post, fetch ─▶ two lines (line.py)

Letters go out on one connection and are fetched on another, so that sending and reading are not seen together.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import msgspec

from pennypost.line import Line, filter_of, refusal
from pennypost.protocol.errors import InvalidEvent, OfficeMisbehaves, OfficeUnreachable, TooMany
from pennypost.protocol.event import KIND_GIFT_WRAP, Event, canonical, is_hex64, parse_event, verify_event
from pennypost.protocol.frames import OkMessage
from pennypost.protocol.headers import RECORD, START, Header, decode_headers
from pennypost.protocol.price import PriceList, Rule, postage
from pennypost.protocol.relay_info import MEDIA_TYPE, ReadPostage, read_postage
from pennypost.store import Store
from pennypost.transport import Transport

INFORMATION_FOR: Final = 3600
"""Seconds that an office's prices are believed without asking again; it honours old prices for a while."""
IDENTITY_FOR: Final = 60
INFORMATION_LIMIT: Final = 64 * 1024
HEADERS: Final = 2_000
"""Records of one look at the feed: 88 KB, some 0.1 s of scanning."""
PAGE: Final = 64
"""Feed numbers of one page (wire contract, section 2, Headers)."""
PAGE_LIMIT: Final = PAGE * 160 * 1024
"""Bytes of a page: 64 of the largest letters."""
AUTHORS: Final = 20
"""One-time keys of one request."""
LETTERS: Final = 100
"""Events of one answer; a one-time key has one, unless its owner plays games."""
TIMEOUT: Final = 20.0


class Office:
    """One post office at one configured address."""

    def __init__(self, url: str, transport: Transport, store: Store) -> None:
        """`url` as `parse_address` gives it."""
        self.url = url
        self._transport, self._store = transport, store
        self._posting, self._reading = Line(transport, url), Line(transport, url)

    async def information(self, now: int, *, within: int = INFORMATION_FOR) -> dict[str, Any]:
        """The relay information document (NIP-11), at most `within` seconds old."""
        kept = await self._store.run(information_on, self.url, now - within, now)
        if kept is not None:
            return cast("dict[str, Any]", msgspec.json.decode(kept))
        answer = await self._transport.request(
            "GET", self.url + "/", headers={"accept": MEDIA_TYPE}, limit=INFORMATION_LIMIT
        )
        _check_status(answer.status)
        document = _json(answer.body)
        if not isinstance(document, dict):
            raise OfficeMisbehaves("this address does not answer as a post office does")
        await self._store.run(save_information_on, self.url, answer.body, now)
        return cast("dict[str, Any]", document)

    async def identity(self, now: int) -> str:
        """The office's own key (NIP-11, self), 64 hex digits; empty where it names none."""
        found: object = (await self.information(now, within=IDENTITY_FOR)).get("self")
        return found if is_hex64(found) and isinstance(found, str) else ""

    async def price(self, event: Event, now: int, *, fresh: bool = False) -> ReadPostage:
        """What the office asks for this event, in sat: its base and what it asks for size and time kept."""
        document = await self.information(now, within=0 if fresh else INFORMATION_FOR)
        asked = read_postage(document, event.kind)
        if not asked.sat:
            return asked
        entry = _entry(document, event.kind)
        rule = Rule(base=asked.sat, per_kib=_whole(entry.get("per_kib")), per_day=_whole(entry.get("per_day")))
        sat = postage(event, len(canonical(event)), now, PriceList((rule,), frozenset())).sat
        return ReadPostage(sat, asked.unit, asked.mints, asked.payments_url)

    async def headers(self, after: int, *, wait: int = 0) -> list[Header]:
        """The header records behind number `after`, rising; with nothing there, the office waits up to `wait` seconds.

        Raises OfficeMisbehaves for numbers that do not rise from `after`: nobody is sent in circles.
        """
        path = f"/v1/headers?after={after}&limit={HEADERS}" + (f"&wait={wait}" if wait else "")
        limit = START.size + RECORD.size * HEADERS
        answer = await self._transport.request("GET", self.url + path, limit=limit, timeout=TIMEOUT + wait)
        _check_status(answer.status)
        _, headers = decode_headers(answer.body)
        if headers and headers[0].seq <= after:
            raise OfficeMisbehaves("its header feed goes backwards")
        return headers

    async def page(self, number: int) -> list[Event]:
        """The letters of 64 consecutive feed numbers; whatever is not a genuine event is left out."""
        answer = await self._transport.request("GET", f"{self.url}/v1/pages/{number}", limit=PAGE_LIMIT, timeout=60)
        _check_status(answer.status)
        try:
            listed = msgspec.json.decode(answer.body, type=list[msgspec.Raw])
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise OfficeMisbehaves("a page that cannot be read") from None
        events: list[Event] = []
        for each in listed[: PAGE * 2]:
            try:
                event = parse_event(each)
                verify_event(event)
            except InvalidEvent:
                continue
            events.append(event)
        return events

    async def letters(self, authors: Sequence[bytes]) -> list[Event]:
        """The letters by these one-time keys (32 bytes each)."""
        found: list[Event] = []
        for start in range(0, len(authors), AUTHORS):
            part = authors[start : start + AUTHORS]
            events = await self._fetch(part)
            if len(events) >= LETTERS and len(part) > 1:
                # One key with very many letters must not push out those of the others.
                events = [event for author in part for event in await self._fetch([author])]
            found += events
        return found

    async def published(self, author: bytes, kind: int) -> list[Event]:
        """What somebody (32-byte public key) has published here under a kind."""
        return await self._reading.fetch(filter_of([author], kind), most=LETTERS, timeout=TIMEOUT)

    async def _fetch(self, authors: Sequence[bytes]) -> list[Event]:
        return await self._reading.fetch(filter_of(authors, KIND_GIFT_WRAP), most=LETTERS, timeout=TIMEOUT)

    def line(self, signer: Callable[[str], Event]) -> Line:
        """A connection of its own, on which the office may learn who we are: `signer` answers its challenge."""
        return Line(self._transport, self.url, signer)

    async def post(self, event: Event, token: str | None, timeout: float) -> OkMessage:
        """Send an event with its stamp; the office's OK."""
        return await self._posting.post(event, token, timeout)

    async def release(self, hold: bytes, preimage: bytes, identifier: bytes) -> None:
        """Have everything held under T (32 bytes) shown: the preimage and the id of request or offer open it.

        Repeating it is harmless. Raises HoldWrong, HoldUnknown, or another refusal of the office.
        """
        body = msgspec.json.encode({"x": preimage.hex(), "id": identifier.hex()})
        answer = await self._transport.request("POST", f"{self.url}/v1/holds/{hold.hex()}", body=body, limit=4_096)
        if answer.status in (400, 403, 404):
            found = _json(answer.body)
            detail = cast("dict[str, Any]", found).get("detail") if isinstance(found, dict) else None
            raise refusal(detail if isinstance(detail, str) else "")
        _check_status(answer.status)

    async def close(self) -> None:
        """Close both connections."""
        await self._posting.close()
        await self._reading.close()


def _check_status(status: int) -> None:
    if status == 429:
        raise TooMany
    if status >= 500:
        raise OfficeUnreachable("it has trouble of its own")
    if status != 200:
        raise OfficeMisbehaves("this address does not answer as a post office does")


def _json(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise OfficeMisbehaves("an answer that cannot be read") from None


def _entry(document: dict[str, Any], kind: int) -> dict[str, Any]:
    """The entry of `fees.stamp` for this kind: it may say what size and time cost, which other relays do not."""
    fees: Any = document.get("fees")
    entries: Any = cast("dict[str, Any]", fees).get("stamp") if isinstance(fees, dict) else None
    for entry in cast("list[Any]", entries) if isinstance(entries, list) else []:
        if isinstance(entry, dict):
            found = cast("dict[str, Any]", entry)
            kinds: Any = found.get("kinds")
            if not isinstance(kinds, list) or kind in cast("list[Any]", kinds):
                return found
    return {}


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else 0


def information_on(connection: sqlite3.Connection, office: str, since: int, now: int) -> bytes | None:
    """The relay information document of an office, when it was asked for after `since`."""
    row = connection.execute(
        "SELECT information FROM offices WHERE url = ? AND asked_at > ? AND asked_at <= ?", (office, since, now)
    ).fetchone()
    return row[0] if row else None


def save_information_on(connection: sqlite3.Connection, office: str, document: bytes, now: int) -> None:
    """Keep a relay information document."""
    connection.execute(
        "INSERT INTO offices (url, information, asked_at) VALUES (?, ?, ?)"
        " ON CONFLICT (url) DO UPDATE SET information = excluded.information, asked_at = excluded.asked_at",
        (office, document, now),
    )
