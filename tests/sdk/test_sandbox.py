"""Finding the server part, and what is said without it."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from pennypost import Client, OfficeUnreachable, ServerExtraMissing, _sandbox, sandbox


def found(*values: str) -> Any:
    return lambda **_: [EntryPoint("sandbox", value, "pennypost.sandbox") for value in values]


@pytest.mark.parametrize("values", [(), ("no_such_package:open",), ("tests.sdk.needs_more:open",)])
def test_without_the_server_part(monkeypatch: pytest.MonkeyPatch, values: tuple[str, ...]) -> None:
    monkeypatch.setattr(_sandbox, "entry_points", found(*values))
    with pytest.raises(ServerExtraMissing) as error:
        sandbox()
    assert "pennypost[server]" in error.value.remedy


def test_a_fault_of_the_server_part_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sandbox, "entry_points", found("pennypost_postoffice.no_such_module:open"))
    with pytest.raises(ModuleNotFoundError):
        sandbox()


def test_two_of_them_are_two_offices() -> None:
    with sandbox() as one, sandbox() as other, Client(one) as alice, Client(other) as bob:
        alice.stamps.buy(1)
        alice.send(bob.npub, "x")
        assert list(bob.inbox()) == []
        token = bob.stamps.buy(1) and bob.stamps.send(1)
        assert token
        assert "pennypost.sandbox" in repr(one)


def test_a_closed_one_is_unreachable() -> None:
    office = sandbox()
    client = Client(office)
    client.stamps.buy(1)
    office.close()
    office.close()
    with pytest.raises(OfficeUnreachable):
        client.stamps.check()
    with pytest.raises(OfficeUnreachable):
        list(client.inbox())
    client.close()


class Broken:
    url = "http://broken.sandbox"

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        raise NotImplementedError

    async def start(self) -> None:
        raise OSError("no")

    async def stop(self) -> None:
        raise AssertionError("was never started")


def test_one_that_does_not_start() -> None:
    with pytest.raises(OSError):
        _sandbox.Sandbox(Broken())


def test_it_knows_no_other_address() -> None:
    with sandbox() as office, Client(office, mint="http://127.0.0.1:1") as alice, pytest.raises(OfficeUnreachable):
        alice.stamps.buy(1)
