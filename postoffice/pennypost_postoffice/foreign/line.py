"""HTTP to one mint elsewhere, which is not trusted: bounded in time and size, no redirects, no proxies, no encodings.

call ─┬─ 200 ▶ a struct                  ├─ no whole answer ▶ Unanswered (`sent`: the mint may have it all the same)
      ├─ 400 with a NUT code ▶ MintError └─ all else ▶ Nonsense, which a proxy may say of a request that was done
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TypeVar

import httpx
import msgspec

from pennypost.protocol.answers import ErrorAnswer, read_answer
from pennypost.protocol.errors import TABLE, MintAway, MintError, MintMisbehaves, OfficeMisbehaves

SECONDS = 15.0
"""Longest a call may take in all, however slowly its answer drips: three fit into the time a sender is held back."""

ANSWER = 1024 * 1024
"""Bytes of an answer. 256 keysets, or the signatures of 1,000 outputs, need less than half of it."""

CONNECTIONS = 16

A = TypeVar("A", bound=msgspec.Struct)

_BY_NUMBER = {each.cashu: each for each in reversed(TABLE) if issubclass(each, MintError)}


class Unanswered(MintAway):
    """No whole answer within the time; `sent`: the request may have reached the mint."""

    def __init__(self, *, sent: bool) -> None:
        super().__init__()
        self.sent = sent


class Nonsense(MintMisbehaves):
    """An answer that is none, or a wrong one; `status` 200 or another."""


class Refusal(Exception):
    """The mint answered a NUT code: it did not do what was asked. Never leaves this package."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.error = _BY_NUMBER.get(number, MintError)


class Line:
    """One mint at one configured address. Close it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"accept": "application/json", "accept-encoding": "identity"},
            verify=ssl.create_default_context(),
            timeout=httpx.Timeout(SECONDS, connect=SECONDS / 2),
            limits=httpx.Limits(max_connections=CONNECTIONS),
            follow_redirects=False,
            trust_env=False,
        )

    async def get(self, path: str, kind: type[A]) -> A:
        """GET. Raises Unanswered, Nonsense, Refusal."""
        return await self._call("GET", path, None, kind)

    async def post(self, path: str, body: msgspec.Struct, kind: type[A]) -> A:
        """POST of JSON, always the same bytes for the same struct (NUT-19). Raises Unanswered, Nonsense, Refusal."""
        return await self._call("POST", path, msgspec.json.encode(body), kind)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def _call(self, method: str, path: str, body: bytes | None, kind: type[A]) -> A:
        status, answer = await self._send(method, path, body)
        try:
            if status == 200:
                return read_answer(answer, kind)
            if status == 400:
                raise Refusal(read_answer(answer, ErrorAnswer).code)
        except OfficeMisbehaves as error:
            raise Nonsense(str(error)) from None
        raise Nonsense(f"status {status}")

    async def _send(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        headers = {} if body is None else {"content-type": "application/json"}
        try:
            async with (
                asyncio.timeout(SECONDS),
                self._http.stream(method, path, content=body, headers=headers) as response,
            ):
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise Nonsense("an encoding that was not asked for")
                answer = bytearray()
                async for chunk in response.aiter_raw():
                    answer += chunk
                    if len(answer) > ANSWER:
                        raise Nonsense("an answer without end")
                return response.status_code, bytes(answer)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            raise Unanswered(sent=False) from None
        except (httpx.HTTPError, httpx.StreamError, TimeoutError):
            # `from None`: the library's text names addresses
            raise Unanswered(sent=True) from None
