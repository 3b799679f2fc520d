"""What is refused before anything is served, and who is answered where play money stays at home."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from pennypost.protocol.errors import ConfigurationError
from pennypost_mint.runtime.settings import load_settings
from pennypost_postoffice.at_home import CLOSED, at_home
from pennypost_postoffice.serve import refuse_public_play_money, uvicorn_config

HOME: list[dict[str, object]] = [
    {},
    {"host": "localhost"},
    {"host": "::1"},
    {"host": "127.0.0.1", "public_url": "http://127.0.0.1:3338"},
    {"host": "0.0.0.0", "play_public": True},
    {"public_url": "https://mint.example", "play_public": True},
    {"host": "0.0.0.0", "play_public": "local"},
    {"host": "0.0.0.0", "play_public": "local", "public_url": "http://127.0.0.1:3338"},
    {"host": "0.0.0.0", "lightning": "nwc"},
    {"host": "0.0.0.0", "role": "postoffice"},
]
OPEN: list[dict[str, object]] = [
    {"host": "0.0.0.0"},
    {"host": "::"},
    {"host": "192.0.2.1"},
    {"host": "mint.example"},
    {"host": "0.0.0.0", "role": "mint"},
    # loopback, behind a proxy that others reach
    {"public_url": "https://mint.example"},
    {"host": "0.0.0.0", "play_public": "local", "public_url": "https://mint.example"},
]


@pytest.mark.parametrize("given", HOME, ids=str)
def test_play_money_is_sold_at_home_or_when_told_twice(given: dict[str, object]) -> None:
    refuse_public_play_money(load_settings({}, **given))


@pytest.mark.parametrize("given", OPEN, ids=str)
def test_play_money_is_not_sold_to_strangers_by_mistake(given: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        refuse_public_play_money(load_settings({}, **given))


ASKED: list[tuple[list[str], bool]] = [
    (["localhost"], True),
    (["localhost:3338"], True),
    (["LOCALHOST:3338"], True),
    (["127.0.0.1:3338"], True),
    (["127.9.9.9"], True),
    (["[::1]:3338"], True),
    ([], False),
    ([""], False),
    (["mint.example"], False),
    (["203.0.113.5:3338"], False),
    (["192.168.1.2:3338"], False),
    (["pennypost:3338"], False),
    (["localhost.mint.example"], False),
    (["mint.example@localhost", "localhost"], False),
    (["localhost", "mint.example"], False),
    (["[::1"], False),
    (["löcalhost"], False),
    (["127.0.0.1.mint.example"], False),
]


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(("hosts", "answered"), ASKED, ids=str)
async def test_at_home_only_who_asks_for_this_machine_is_answered(hosts: list[str], answered: bool, kind: str) -> None:
    served: list[Any] = []
    sent: list[Any] = []

    async def application(scope: Any, _receive: Any, _send: Any) -> None:
        served.append(scope)

    async def receive() -> Any:
        return {}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": kind, "headers": [(b"host", host.encode("latin-1")) for host in hosts]}
    await at_home(application)(scope, receive, send)
    assert (served, sent) == ([scope], []) if answered else served == []
    if not answered and kind == "http":
        assert sent[0]["status"] == 403
        assert json.loads(sent[1]["body"])["code"] == 0 and b"[play-money]" in sent[1]["body"]
    elif not answered:
        assert sent == [{"type": "websocket.close", "code": CLOSED}]


CONFIGURED: list[tuple[dict[str, object], bool]] = [
    ({"host": "0.0.0.0", "play_public": "local"}, True),
    ({"host": "0.0.0.0", "play_public": "local", "lightning": "nwc"}, False),
    ({"host": "0.0.0.0", "play_public": "local", "role": "postoffice"}, False),
    ({"host": "0.0.0.0", "play_public": True}, False),
    ({}, False),
]


@pytest.mark.parametrize(("given", "guarded"), CONFIGURED, ids=str)
async def test_the_guard_stands_where_play_money_is_kept_at_home(given: dict[str, object], guarded: bool) -> None:
    reached: list[Any] = []

    async def asgi(scope: Any, _receive: Any, _send: Any) -> None:
        reached.append(scope)

    async def nothing(*_message: Any) -> None:
        """Neither asked nor heard."""

    service: Any = SimpleNamespace(asgi=asgi, office=None)
    application: Any = uvicorn_config(service, load_settings({}, **given)).app
    await application({"type": "http", "path": "/", "headers": [(b"host", b"office.example")]}, nothing, nothing)
    assert bool(reached) is not guarded


def test_the_setting_is_read_from_the_environment() -> None:
    for written, read in (("local", "local"), ("true", True), ("false", False), ("1", True)):
        assert load_settings({"PENNYPOST_PLAY_PUBLIC": written}).play_public == read
    with pytest.raises(ConfigurationError):
        load_settings({"PENNYPOST_PLAY_PUBLIC": "everybody"})
