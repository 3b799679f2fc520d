"""The way through memory: an application that breaks, floods or goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pennypost.asgi import QUEUE, AsgiTransport
from pennypost.protocol.errors import OfficeMisbehaves, OfficeUnreachable

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
URL = "http://test.sandbox"


def transport(app: Any) -> AsgiTransport:
    return AsgiTransport(app, URL, asyncio.get_running_loop())


async def answer(send: Send, body: bytes, status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"x-thing", b"yes")]})
    await send({"type": "http.response.body", "body": body})


async def test_an_answer() -> None:
    asked: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        asked.append((scope["method"], scope["path"], scope["query_string"], (await receive())["body"]))
        await answer(send, b"hello", 404)

    found = await transport(app).request("POST", f"{URL}/a/b?c=d", body=b"body")
    assert (found.status, found.body, dict(found.headers)) == (404, b"hello", {"x-thing": "yes"})
    assert asked == [("POST", "/a/b", b"c=d", b"body")]


async def test_an_application_that_breaks_before_it_answers() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        raise KeyError("secret")

    with pytest.raises(OfficeUnreachable) as found:
        await transport(app).request("GET", URL)
    assert "secret" not in str(found.value)


async def test_an_application_that_answers_and_goes_on() -> None:
    ended = asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await answer(send, b"first", 500)
        await asyncio.sleep(0.01)
        ended.set()

    assert (await transport(app).request("GET", URL)).status == 500
    await ended.wait()


async def test_too_large_and_too_slow() -> None:
    async def large(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(100):
            await send({"type": "http.response.body", "body": b"x" * 100, "more_body": True})

    async def slow(scope: Any, receive: Receive, send: Send) -> None:
        await asyncio.sleep(60)

    with pytest.raises(OfficeMisbehaves):
        await transport(large).request("GET", URL, limit=1_000)
    with pytest.raises(OfficeUnreachable):
        await transport(slow).request("GET", URL, timeout=0.05)


@pytest.mark.parametrize("url", ["http://127.0.0.1:22", f"{URL}.example", "http://test.sandbo"])
async def test_no_other_address(url: str) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        raise AssertionError

    with pytest.raises(OfficeUnreachable):
        await transport(app).request("GET", url)
    with pytest.raises(OfficeUnreachable):
        await transport(app).websocket(url)


async def echo(scope: Any, receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"] * 2})


async def test_websocket() -> None:
    socket = await transport(echo).websocket(URL)
    await socket.send("ab")
    assert await socket.receive() == "abab"
    await socket.close()
    await socket.close()
    with pytest.raises(OfficeUnreachable):
        await socket.send("x")
    with pytest.raises(OfficeUnreachable):
        await socket.receive()


async def test_a_refused_websocket() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.close", "code": 4404})

    with pytest.raises(OfficeUnreachable):
        await transport(app).websocket(URL)


async def test_a_message_that_is_too_large() -> None:
    socket = await transport(echo).websocket(URL, limit=10)
    await socket.send("x" * 6)
    with pytest.raises(OfficeMisbehaves):
        await socket.receive()
    await socket.close()


async def test_a_reader_that_does_not_read_is_waited_for_and_can_leave() -> None:
    sent = 0

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        nonlocal sent
        await receive()
        await send({"type": "websocket.accept"})
        while sent < 10 * QUEUE:
            await send({"type": "websocket.send", "text": "x"})
            sent += 1

    socket = await transport(app).websocket(URL)
    await asyncio.sleep(0.05)
    assert sent == QUEUE
    assert await socket.receive() == "x"
    await socket.close()
    assert sent <= 3 * QUEUE


async def test_an_application_that_leaves() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": b"last"})

    socket = await transport(app).websocket(URL)
    assert await socket.receive() == b"last"
    with pytest.raises(OfficeUnreachable):
        await socket.receive()
    await socket.close()
