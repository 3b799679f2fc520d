"""What a reader downloads, counted where the office sends it; sizes, times and addresses of what is written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest

from pennypost import AsyncClient, Mail, Sandbox
from pennypost.asgi import AsgiTransport
from pennypost.mail import Privacy
from pennypost.office import PAGE
from pennypost.protocol.event import Event, event_json, expiration
from pennypost.protocol.headers import RECORD, START, TTL_CLASSES, size_class
from tests.sdk.test_mail import stamped

Make = Callable[..., AsyncClient]
OTHERS = 6
FRAMES = 512
"""Bytes around letters: the frames of one REQ, and a few of JSON around each event."""


class Counted:
    """The office's application, with a count of all bytes it sends."""

    def __init__(self, office: Sandbox) -> None:
        self._app = office._office.asgi
        self.sent: dict[str, int] = {}
        self.transport = AsgiTransport(self, office.url, office._thread.loop)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        path = scope.get("path", "") if scope["type"] == "http" else "websocket"

        async def counted(message: MutableMapping[str, Any]) -> None:
            data = message.get("body") or message.get("bytes") or (message.get("text") or "").encode()
            self.sent[path] = self.sent.get(path, 0) + len(data)
            await send(message)

        await self._app(scope, receive, counted)

    @property
    def total(self) -> int:
        return sum(self.sent.values())


async def read(client: AsyncClient, privacy: Privacy) -> list[Mail]:
    return [mail async for mail in client.inbox(privacy=privacy)]


async def test_at_level_fast_nothing_is_downloaded_that_is_not_ours(client: Make, office: Sandbox) -> None:
    alice, carol = await stamped(client, stamps=20), client()
    readers = {level: Counted(office) for level in ("fast", "page", "all")}
    clients = {level: client(transport=counted.transport) for level, counted in readers.items()}
    last = max((header.seq for header in await headers_of(alice)), default=0)
    for counted, each in zip(readers.values(), clients.values(), strict=True):
        # What is there already is read, so that only the letters below are counted.
        assert await read(each, "fast") == []
        counted.sent.clear()
    own: dict[str, list[Event]] = {}
    for _ in range(OTHERS):
        await alice.send(carol.npub, "x" * 15_000)
    for level, each in clients.items():
        receipt = await alice.send(each.npub, "for you")
        own[level] = [event for event in await bodies_of(alice, last) if event.id == receipt.event_id]
    number = OTHERS + len(clients)
    for level in ("fast", "page", "all"):
        (mail,) = await read(clients[level], level)
        assert mail.text == "for you"
    sent = {level: counted.total for level, counted in readers.items()}
    feed = 2 * START.size + RECORD.size * number
    letter = len(event_json(own["fast"][0]))
    assert sent["fast"] - readers["fast"].sent.get("/", 0) <= feed + letter + FRAMES
    # Those of others, some 23 KB each, come at the levels that do not say which letter is wanted.
    size = {event.pubkey: len(event_json(event)) for event in await bodies_of(alice, last)}
    shown = [header for header in await headers_of(alice) if header.seq > last]
    (mine,) = own["page"]
    (page,) = (header.seq // PAGE for header in shown if header.pubkey.hex() == mine.pubkey)
    assert sent["page"] > sum(size[header.pubkey.hex()] for header in shown if header.seq // PAGE == page)
    assert sent["all"] > sum(size.values()) > OTHERS * 15_000
    assert not any("/v1/pages/" in path for path in readers["fast"].sent)
    assert "websocket" not in readers["page"].sent and "websocket" not in readers["all"].sent


async def headers_of(client: AsyncClient) -> list[Any]:
    found: list[Any] = []
    while headers := await client.office.headers(found[-1].seq if found else 0):
        found += headers
    return found


async def bodies_of(client: AsyncClient, after: int) -> list[Event]:
    return await client.office.letters([header.pubkey for header in await headers_of(client) if header.seq > after])


async def test_reading_goes_on_where_it_stopped(client: Make, office: Sandbox) -> None:
    """A second reading asks for what is behind the last number alone."""
    alice, counted = await stamped(client), Counted(office)
    bob = client(transport=counted.transport)
    await alice.send(bob.npub, "one")
    assert [mail.text for mail in await read(bob, "fast")] == ["one"]
    counted.sent.clear()
    assert await read(bob, "fast") == []
    assert counted.sent.get("/v1/headers") == START.size and "websocket" not in counted.sent


async def test_sizes_times_and_addresses(client: Make) -> None:
    """Three sizes, four times, and every address once."""
    alice, bob = await stamped(client, stamps=20), client()
    last = max((header.seq for header in await headers_of(alice)), default=0)
    texts = ["", "x", "x" * 600, "x" * 1_000, "x" * 3_000, "x" * 4_000, "x" * 15_000]
    for text in texts:
        await alice.send(bob.npub, text, keep=100)
    for keep in (3_600, 3_601, 86_401, 30 * 86_400):
        await alice.send(bob.npub, "x", keep=keep)
    events = sorted(await bodies_of(alice, last), key=lambda each: len(each.content))
    assert len(events) == len(texts) + 4
    assert len({len(event.content) for event in events}) == 3
    assert {size_class(len(event.content)) for event in events} == {0, 1, 2}
    assert {(expiration(event) or 0) - event.created_at for event in events} == set(TTL_CLASSES)
    # Author, receiver and view tag are new each time, and none is anybody's own key.
    for column in ([event.pubkey for event in events], [event.tags[0][1] for event in events]):
        assert len(set(column)) == len(events)
        assert not {alice.identity.pub.hex(), bob.identity.pub.hex()} & set(column)
    await bob.stamps.buy(1)
    answer = await bob.send(alice.npub, "back")
    (event,) = [each for each in await bodies_of(alice, last) if each.id == answer.event_id]
    assert event.pubkey not in {each.pubkey for each in events} and event.tags[0][1] != alice.identity.pub.hex()


@pytest.mark.parametrize("privacy", ["page", "all"])
async def test_pages_are_whole_ones(client: Make, office: Sandbox, privacy: Privacy) -> None:
    """What is asked for at these levels is a multiple of 64 numbers, whichever of them was wanted."""
    alice, counted = await stamped(client), Counted(office)
    bob = client(transport=counted.transport)
    await asyncio.gather(*(alice.send(bob.npub, str(number)) for number in range(3)))
    assert sorted(mail.text for mail in await read(bob, privacy)) == ["0", "1", "2"]
    last = (await headers_of(alice))[-1].seq
    pages = {int(path.rsplit("/", 1)[1]) for path in counted.sent if path.startswith("/v1/pages/")}
    assert pages and pages <= set(range(last // PAGE + 1))
    if privacy == "all":
        assert pages == {header.seq // PAGE for header in await headers_of(alice)}
