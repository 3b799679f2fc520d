"""The mint behind its real HTTP server: sizes, methods, browsers, and worker processes that die."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator

import httpx
import psutil
import pytest

from tests.support.server import Server
from tests.support.stamps import MintClient, output


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture
async def mint(server: Server) -> AsyncIterator[MintClient]:
    async with MintClient(server.url) as opened:
        yield opened


async def exchange(url: str, request: bytes) -> bytes:
    """Sends bytes and reads until the server closes."""
    address, loop = httpx.URL(url), asyncio.get_running_loop()
    answer = b""
    with socket.create_connection((address.host, address.port)) as connection:
        connection.setblocking(False)
        async with asyncio.timeout(30):
            # a server that closes before it has read all resets the connection, behind its answer
            with contextlib.suppress(ConnectionError):
                await loop.sock_sendall(connection, request)
            with contextlib.suppress(ConnectionError):
                while part := await loop.sock_recv(connection, 1 << 16):
                    answer += part
    return answer


async def test_a_large_body_is_refused_by_its_announcement(server: Server) -> None:
    head = b"POST /v1/swap HTTP/1.1\r\nhost: x\r\ncontent-length: 20971520\r\n\r\n["
    answer = await exchange(server.url, head)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":10000' in answer


async def test_a_large_body_in_pieces_is_refused_when_it_is_too_much(server: Server) -> None:
    head = b"POST /v1/swap HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    piece = b"20000\r\n" + b" " * 0x20000 + b"\r\n"
    answer = await exchange(server.url, head + piece * 9)
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/swap", 405),
        ("PUT", "/v1/swap", 405),
        ("POST", "/v1/keys", 405),
        ("DELETE", "/v1/info", 405),
        ("GET", "/v1/nothing", 404),
    ],
)
async def test_another_method_or_path_is_refused_in_the_nuts_form(
    server: Server, method: str, path: str, status: int
) -> None:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
        response = await http.request(method, path)
    assert response.status_code == status
    assert set(response.json()) == {"detail", "code"}


async def test_a_browser_may_ask_before_it_asks(server: Server) -> None:
    headers = {
        "origin": "https://wallet.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
        response = await http.options("/v1/swap", headers=headers)
        refused = await http.post("/v1/swap", json={}, headers={"origin": "https://wallet.example"})
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "*"
    assert response.headers.get_list("access-control-allow-origin") == ["*"]
    assert refused.headers.get_list("access-control-allow-origin") == ["*"]


POSTED = ["swap", "mint/bolt11", "mint/bolt11/batch", "mint/quote/bolt11", "mint/quote/bolt11/check", "checkstate"]


@pytest.mark.parametrize("path", [*POSTED, "restore", "melt", "melt/quote/bolt11", "mint/nothing"])
async def test_a_browser_and_another_program_are_answered_alike(server: Server, path: str) -> None:
    """What a browser sends goes through the framework, the rest past it."""
    browser = {"origin": "https://wallet.example"}
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
        for body in (b"", b"[]", b"{}", b'{"Ys":["02%b"]}' % (b"0" * 64), b'{"outputs":[]}', b'{"quotes":[]}'):
            near, far = (
                await http.post(f"/v1/{path}", content=body, headers=browser),
                await http.post(f"/v1/{path}", content=body),
            )
            assert near.status_code == far.status_code
            assert near.content == far.content
            only_for_browsers = {"access-control-expose-headers", "vary", "date"}
            assert set(near.headers) - only_for_browsers == set(far.headers) - only_for_browsers
            assert far.headers.get_list("access-control-allow-origin") == ["*"]


async def test_a_crypto_process_that_is_killed_loses_no_swap(server: Server, mint: MintClient) -> None:
    stamps = await mint.buy(60)

    async def swap_one(number: int) -> None:
        if number == 20:
            # one: what two processes had in hand when they died is answered with an error
            os.kill(psutil.Process(server.pid).children()[0].pid, signal.SIGKILL)
        await mint.swap([stamps[number]], [output()])

    await asyncio.gather(*(swap_one(number) for number in range(60)))
    assert set(await mint.states(stamps)) == {"SPENT"}
