"""The relay management API (NIP-86): whoever may ask, every method, and what becomes of it."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import func, select

from pennypost.protocol.event import Event
from pennypost.protocol.nip98 import http_auth
from pennypost_postoffice import operators
from pennypost_postoffice.manage import METHODS, RPC_TYPE
from pennypost_postoffice.tables import signed_requests
from tests.postoffice.house import Author, House, open_house
from tests.support.foreign import node

OPERATOR = Author()


@pytest_asyncio.fixture
async def managed(address: str, tmp_path: Path) -> AsyncIterator[House]:
    """An office that one key manages."""
    async with open_house(tmp_path, address, operators=OPERATOR.pubkey) as opened:
        yield opened


async def _post(house: House, body: bytes, header: str | None, media: str = RPC_TYPE) -> httpx.Response:
    headers = {"content-type": media} | ({} if header is None else {"authorization": header})
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.post(house.url + "/", content=body, headers=headers)


def _sign(house: House, body: bytes, author: Author = OPERATOR) -> str:
    return http_auth(
        author.secret,
        url=house.url,
        method="POST",
        body=body,
        now=int(time.time()),
        aux=secrets.token_bytes(32),
    )


async def _ask(house: House, method: str, *params: Any) -> Any:
    body = json.dumps({"method": method, "params": params}).encode()
    answer = await _post(house, body, _sign(house, body))
    assert answer.status_code == 200 and answer.headers["content-type"] == RPC_TYPE
    return answer.json()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def _information(house: House) -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False) as http:
        return (await http.get(house.url, headers={"accept": "application/nostr+json"})).json()


# --- who may ask


async def test_without_operators_nothing_is_managed(sqlite_house: House) -> None:
    body = b'{"method":"supportedmethods","params":[]}'
    assert (await _post(sqlite_house, body, _sign(sqlite_house, body))).status_code == 404
    assert 86 not in (await _information(sqlite_house))["supported_nips"]


@pytest.mark.parametrize("address", ["sqlite"], indirect=True)
async def test_who_is_refused(managed: House) -> None:
    body = b'{"method":"supportedmethods","params":[]}'
    assert 86 in (await _information(managed))["supported_nips"]
    assert (await _post(managed, body, None)).status_code == 401
    assert (await _post(managed, body, _sign(managed, body, Author()))).status_code == 401
    assert (await _post(managed, body + b" ", _sign(managed, body))).status_code == 401
    assert (await _post(managed, body, _sign(managed, body), "application/json")).status_code == 404
    header = _sign(managed, body)
    assert (await _post(managed, body, header)).status_code == 200
    again = await _post(managed, body, header)
    assert again.status_code == 401 and "[http-auth]" in again.json()["detail"]
    large = b"x" * 300_000
    assert (await _post(managed, large, _sign(managed, large))).status_code == 413


@pytest.mark.parametrize("address", ["sqlite"], indirect=True)
async def test_a_foreign_signer_is_understood(managed: House) -> None:
    """nostr-tools signs; ours checks."""
    asked = {"method": "supportedmethods", "params": []}
    made = node(
        "manage.mjs",
        given={"secret": OPERATOR.secret.hex(), "url": managed.url + "/", "method": "POST", "body": asked},
    )
    answer = await _post(managed, made["body"].encode(), made["authorization"])
    assert answer.status_code == 200
    assert set(answer.json()["result"]) == METHODS.keys() - {"supportedmethods"}


async def test_a_signed_request_is_taken_once_by_all_processes(address: str, tmp_path: Path) -> None:
    """Two processes on PostgreSQL; on SQLite, where there is one, before and after a restart."""
    body = b'{"method":"supportedmethods","params":[]}'
    public = {"public_url": "http://office.example", "operators": OPERATOR.pubkey}
    header = ""
    async with AsyncExitStack() as stack:
        for number in range(2):
            async with AsyncExitStack() as process:
                house = await process.enter_async_context(open_house(tmp_path, address, **public))
                header = header or _sign(house, body)
                url = f"http://127.0.0.1:{house.settings.port}/"
                async with httpx.AsyncClient(trust_env=False) as http:
                    headers = {"content-type": RPC_TYPE, "authorization": header}
                    answers = await asyncio.gather(*(http.post(url, content=body, headers=headers) for _ in range(3)))
                found = sorted(each.status_code for each in answers)
                assert found == ([401, 401, 401] if number else [200, 401, 401])
                if address:
                    # it goes on while the next one runs
                    stack.push_async_exit(process.pop_all())


async def test_what_was_signed_is_forgotten_when_it_is_over(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "REMEMBERED", 3)
    database, event = house.office.database, secrets.token_bytes(32)

    async def use(event_id: bytes, now: int) -> bool:
        return await database.write(operators.use_on, event_id, now + 120, now)

    assert [await use(event, 1_000), await use(event, 1_000), await use(event, 1_120)] == [True, False, False]
    assert [await use(secrets.token_bytes(32), 1_120) for _ in range(3)] == [True, True, False]
    assert await use(event, 1_121)
    found = await database.read(lambda c: c.execute(select(func.count()).select_from(signed_requests)).scalar_one())
    assert found == 3


# --- methods


BAD = [
    b"",
    b"[]",
    b"null",
    b'{"method":1,"params":[]}',
    b'{"method":"banpubkey","params":{}}',
    b'{"method":"banpubkey"}',
    b'{"method":"banpubkey","params":["x"]}',
    b'{"method":"banpubkey","params":[null]}',
    json.dumps({"method": "banpubkey", "params": ["AB" * 32]}).encode(),
    json.dumps({"method": "banpubkey", "params": ["ab" * 32, 5]}).encode(),
    json.dumps({"method": "banpubkey", "params": ["ab" * 32, "x" * 257]}).encode(),
    b'{"method":"disallowkind","params":[true]}',
    b'{"method":"disallowkind","params":["1"]}',
    b'{"method":"disallowkind","params":[65536]}',
    b'{"method":"disallowkind","params":[-1]}',
    b'{"method":"changerelayname","params":[]}',
    b'{"method":"changerelayname","params":["a\\u0000b"]}',
    b'{"method":"changerelayicon","params":["javascript:alert(1)"]}',
    b'{"method":"blockip","params":["127.0.0.1"]}',
    b'{"method":"__init__","params":[]}',
    b"\xff",
    b"[" * 10_000,
]


@pytest.mark.parametrize("address", ["sqlite"], indirect=True)
async def test_what_makes_no_sense_changes_nothing(managed: House) -> None:
    before = await _information(managed)
    for body in BAD:
        answer = await _post(managed, body, _sign(managed, body))
        assert answer.status_code == 200, body
        assert answer.json().keys() == {"error"} and "[invalid-input]" in answer.json()["error"], body
    assert await _information(managed) == before
    for listing in ("listbannedpubkeys", "listbannedevents", "listdisallowedkinds"):
        assert await _ask(managed, listing) == {"result": []}


async def test_bans(managed: House) -> None:
    """Refused at once with the stamp untouched, listed, and taken again afterwards; a banned event is deleted."""
    author, other = Author(), Author()
    gone, odd = other.sign(1), other.sign(7)

    async def code(event: Event) -> str:
        async with managed.relay() as relay:
            proof = managed.purse.proof()
            answer = await relay.post(event, managed.purse.token(proof))
            assert await managed.spent(proof) == [answer.accepted and not answer.duplicate]
            return answer.code

    assert await code(gone) == ""
    assert await _ask(managed, "banpubkey", author.pubkey, "spam") == {"result": True}
    assert await _ask(managed, "banevent", gone.id) == {"result": True}
    assert await _ask(managed, "disallowkind", 7) == {"result": True}
    await _until(lambda: managed.office.policy.bans._kinds == {7})
    assert await code(author.sign(1)) == "banned"
    assert await code(gone) == "banned"
    assert await code(odd) == "kind"
    async with managed.relay() as relay:
        assert await relay.fetch({"ids": [gone.id]}) == []
    assert await _ask(managed, "listbannedpubkeys") == {"result": [{"pubkey": author.pubkey, "reason": "spam"}]}
    assert await _ask(managed, "listbannedevents") == {"result": [{"id": gone.id, "reason": ""}]}
    assert await _ask(managed, "listdisallowedkinds") == {"result": [7]}
    assert await _ask(managed, "unbanpubkey", author.pubkey) == {"result": True}
    assert await _ask(managed, "allowevent", gone.id) == {"result": True}
    assert await _ask(managed, "allowkind", 7) == {"result": True}
    await _until(lambda: managed.office.policy.bans._none)
    assert [await code(event) for event in (author.sign(1), gone, odd)] == [""] * 3


async def test_what_the_author_deleted_stays_deleted(managed: House) -> None:
    """The operator takes back his own deletion, not that of the author."""
    author = Author()
    event = author.sign(1)
    async with managed.relay() as relay:
        await managed.pay(relay, [event])
        assert (await relay.post(author.sign(5, ["e", event.id]))).accepted
        await _ask(managed, "banevent", event.id)
        # it looks a moment later: a ban that is on its way would come behind what is awaited below
        await _until(lambda: not managed.office.policy.bans._none)
        await _ask(managed, "allowevent", event.id)
        await _until(lambda: managed.office.policy.bans._none)
        assert (await relay.post(event, managed.purse.token())).code == "deleted"


async def test_what_the_office_says_of_itself(managed: House) -> None:
    """The change goes before the settings, and empty text gives them back."""
    changes = {"name": "Café", "description": "another", "icon": "https://office.example/icon.png"}
    before = await _information(managed)
    for field, value in changes.items():
        assert await _ask(managed, f"changerelay{field}", value) == {"result": True}
    await _until(lambda: (managed.office.marks or {}).get("icon") is not None)
    assert await _information(managed) == before | changes
    for field in changes:
        await _ask(managed, f"changerelay{field}", "")
    await _until(lambda: "icon" not in (managed.office.marks or {}))
    assert await _information(managed) == before
