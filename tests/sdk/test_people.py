"""Names of people (NIP-05): asked of a real HTTPS server, remembered, never followed elsewhere."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator

import pytest

from pennypost import AsyncClient
from pennypost import people as people_module
from pennypost.lnurl import check_public
from pennypost.people import ASKED_FOR, KNOWN_FOR
from pennypost.protocol import nip19, secp
from pennypost.protocol.errors import (
    InvalidInput,
    InvalidKey,
    NameChanged,
    NameUnknown,
    NameUnreachable,
    OfficeMisbehaves,
)
from tests.sdk.test_mail import stamped, texts
from tests.support.https import HttpsServer

Make = Callable[..., AsyncClient]
KEY, OTHER = secp.xonly(b"\x01" * 32), secp.xonly(b"\x02" * 32)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpsServer]:
    server = HttpsServer(tmp_path_factory.mktemp("https"))
    yield server
    server.close()


@pytest.fixture
def names(running: HttpsServer, monkeypatch: pytest.MonkeyPatch) -> HttpsServer:
    """The server, trusted, with nothing asked yet."""
    monkeypatch.setenv("SSL_CERT_FILE", str(running.authority))
    running.asked.clear()
    serve(running, {"bob": KEY.hex()})
    return running


def serve(server: HttpsServer, names: object, status: int = 200, **headers: str) -> None:
    body = json.dumps({"names": names, "relays": {KEY.hex(): ["wss://127.0.0.1:1"]}}).encode()
    server.answer = lambda path: (status, body, headers)


async def test_a_letter_to_a_name(client: Make, names: HttpsServer) -> None:
    alice, bob = await stamped(client), client()
    serve(names, {"bob": bob.identity.pub.hex()})
    assert (await alice.send(f"Bob@{names.host}", "hello")).accepted
    assert await texts(bob) == ["hello"]
    assert names.asked == ["/.well-known/nostr.json?name=bob"]
    assert await alice.who(f"bob@{names.host}") == bob.npub
    assert len(names.asked) == 1


@pytest.mark.parametrize("form", [nip19.encode_npub(KEY), KEY.hex(), f"nostr:{nip19.encode_npub(KEY)}"])
async def test_a_key_asks_nobody(client: Make, names: HttpsServer, form: str) -> None:
    assert await client().who(form) == nip19.encode_npub(KEY)
    assert names.asked == []


async def test_everywhere_a_person_is_named(client: Make, names: HttpsServer) -> None:
    alice, who = await stamped(client), f"bob@{names.host}"
    channel = await alice.channels.create("News", posters=[who])
    assert (await alice.channels.invite(channel.id, who)).accepted
    assert await alice.channels.members(channel.id) == [nip19.encode_npub(KEY)]
    assert await alice.sessions.addresses(who) == []
    assert await alice.sessions.forget(who) == 0
    assert (await alice.notices.send(who, "x")).carrier == "hand"
    assert len(names.asked) == 1


async def test_another_key_is_reported_and_nothing_is_sent(client: Make, names: HttpsServer) -> None:
    now, told, who = [1_700_000_000.0], list[str](), f"bob@{names.host}"
    alice = client(clock=lambda: now[0], notice=told.append)
    assert await alice.who(who) == nip19.encode_npub(KEY)
    serve(names, {"bob": OTHER.hex()})
    assert await alice.who(who) == nip19.encode_npub(KEY)
    now[0] += ASKED_FOR
    for _ in range(2):
        with pytest.raises(NameChanged):
            await alice.send(who, "x")
    assert nip19.encode_npub(KEY) in told[-1] and nip19.encode_npub(OTHER) in told[-1]
    assert await alice.who(who, accept=True) == await alice.who(who) == nip19.encode_npub(OTHER)


async def test_a_server_that_is_away(client: Make, names: HttpsServer) -> None:
    now, told, who = [1_700_000_000.0], list[str](), f"bob@{names.host}"
    alice = client(clock=lambda: now[0], notice=told.append)
    serve(names, {}, 503)
    with pytest.raises(NameUnreachable):
        await alice.who(who)
    serve(names, {"bob": KEY.hex()})
    await alice.who(who)
    serve(names, {}, 503)
    now[0] += ASKED_FOR
    assert await alice.who(who) == nip19.encode_npub(KEY) and len(told) == 1
    with pytest.raises(NameUnreachable):
        await alice.who(who, accept=True)
    now[0] += KNOWN_FOR
    with pytest.raises(NameUnreachable):
        await alice.who(who)


async def test_a_name_that_is_gone_is_not_believed_any_more(client: Make, names: HttpsServer) -> None:
    now, who = [1_700_000_000.0], f"bob@{names.host}"
    alice = client(clock=lambda: now[0])
    await alice.who(who)
    serve(names, {})
    now[0] += ASKED_FOR
    with pytest.raises(NameUnknown):
        await alice.who(who)


@pytest.mark.parametrize(
    ("status", "body", "headers", "error"),
    [
        (404, b"", {}, NameUnknown),
        (301, b"", {"location": "https://127.0.0.1:1/"}, OfficeMisbehaves),
        (307, b"", {"location": "/.well-known/other"}, OfficeMisbehaves),
        (200, b"<html>", {}, OfficeMisbehaves),
        (200, b" " * 300_000, {}, OfficeMisbehaves),
        (200, b"\x1f\x8b", {"content-encoding": "gzip"}, OfficeMisbehaves),
        (403, b"{}", {}, OfficeMisbehaves),
        (429, b"", {}, NameUnreachable),
    ],
)
async def test_answers_that_are_none(
    client: Make, names: HttpsServer, status: int, body: bytes, headers: dict[str, str], error: type[Exception]
) -> None:
    names.answer = lambda path: (status, body, headers)
    with pytest.raises(error):
        await client().who(f"bob@{names.host}")
    assert len(names.asked) == 1


async def test_only_a_certificate_that_is_trusted(
    client: Make, names: HttpsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(NameUnreachable):
        await client().who(f"bob@{names.host}")
    assert names.asked == []


@pytest.mark.parametrize(
    "host",
    ["10.0.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "inner.example"],
)
async def test_no_private_network_is_dialled(client: Make, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dialled: list[object] = []
    alice = client()

    async def request(*arguments: object, **options: object) -> None:
        dialled.append(arguments)

    async def private(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.1.2.3", 443))]

    monkeypatch.setattr(alice._network, "request", request)
    monkeypatch.setattr("pennypost.lnurl.getproxies", dict)
    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", private)
    with pytest.raises(NameUnreachable):
        await alice.who(f"bob@{host}")
    assert dialled == []


async def test_a_name_that_passes_by_the_proxy_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_PROXY: this machine dials it, so that the proxy does not keep a stranger out of our network."""

    async def private(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.1.2.3", 443))]

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", private)
    for name in ("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", ".corp.example,other.example:443")
    for proxy in ("HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")
        await check_public("public.example")
        for host in ("inner.corp.example", "other.example"):
            with pytest.raises(InvalidInput):
                await check_public(host)
        monkeypatch.delenv(proxy)


async def test_what_is_remembered_is_bounded(client: Make, names: HttpsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people_module, "MOST", 2)
    names.answer = lambda path: (200, json.dumps({"names": {path[-1]: KEY.hex()}}).encode(), {})
    now = [1_700_000_000.0]
    alice = client(clock=lambda: now[0])
    for name in "abcbca":
        now[0] += 1
        await alice.who(f"{name}@{names.host}")
    assert [each[-1] for each in names.asked] == ["a", "b", "c", "a"]


@pytest.mark.parametrize("name", ["bob@", "@example.com", "bob@exa mple.com"])
async def test_no_names(client: Make, name: str) -> None:
    with pytest.raises(InvalidKey):
        await client().send(name, "x")
