"""`pennypost doctor` in front of real faults: proxies that do one thing wrong, certificates, clocks, wallets."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pennypost import AsyncClient, nwc
from pennypost.cli import front, main
from pennypost.cli.doctor import POINTS
from pennypost.cli.exit_codes import exit_code
from pennypost.protocol.errors import (
    CertificateWrong,
    OfficeMisbehaves,
    OfficeUnreachable,
    PennypostError,
    ProxyInTheWay,
    WalletCannot,
    WalletError,
    WalletRefuses,
    WalletUnreachable,
    WrongClock,
)
from pennypost.transport import NetworkTransport, WebSocket
from tests.support.http import certificates
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.scripted_wallet import ScriptedWallet
from tests.support.server import Server

# The package's name of the module is the command.
doctor = importlib.import_module("pennypost.cli.doctor")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look is given up because this machine is busy."""
    monkeypatch.setattr(front, "PATIENCE", 60.0)


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A real server that believes to stand behind a proxy, and the proxy's port."""
    port = free_port()
    settings = {"PUBLIC_URL": f"http://127.0.0.1:{port}", "PLAY_SETTLE_AFTER": "0"}
    with Server(tmp_path_factory.mktemp("behind"), settings=settings) as server:
        yield server.url, port


@pytest.fixture
async def proxy(behind: Any) -> AsyncIterator[Proxy]:
    async with Proxy(behind[0], port=behind[1]) as made:
        yield made


async def looked(look: Callable[[AsyncClient], Any], url: str, home: Path) -> str:
    async with AsyncClient(url, home) as client:
        return await look(client)


FAULTS: dict[str, dict[str, type[PennypostError]]] = {
    "none": {},
    "no upgrade": {"connection": ProxyInTheWay},
    "buffers": {"connection": ProxyInTheWay},
    "cuts off": {"connection": ProxyInTheWay},
    "caches": {"way": ProxyInTheWay},
    "compresses": {"way": OfficeMisbehaves, "connection": OfficeMisbehaves, "bodies": OfficeMisbehaves},
    "redirects": {"way": OfficeMisbehaves, "connection": OfficeMisbehaves, "bodies": OfficeMisbehaves},
    "answers alone": {"way": ProxyInTheWay, "connection": ProxyInTheWay, "bodies": ProxyInTheWay},
    "small bodies": {"bodies": ProxyInTheWay},
    "own error pages": {"bodies": ProxyInTheWay},
    "drops headers": {"bodies": ProxyInTheWay},
}


def impatient_once_open(patch: pytest.MonkeyPatch) -> None:
    """A silence on an open WebSocket is short; whatever comes before has its time."""
    dial = NetworkTransport.websocket

    async def websocket(self: NetworkTransport, url: str, **options: Any) -> WebSocket:
        opened = await dial(self, url, **options)
        patch.setattr(front, "PATIENCE", 0.5)
        return opened

    patch.setattr(NetworkTransport, "websocket", websocket)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_proxy_with_one_fault(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    proxy.fault = fault
    looks = (("tls", front.tls), ("way", front.passes), ("connection", front.websocket), ("bodies", front.bodies))
    for name, look in looks:
        expected = FAULTS[fault].get(name)
        with monkeypatch.context() as patch:
            if fault == "buffers":
                impatient_once_open(patch)
            if expected is None:
                assert await looked(look, proxy.url, tmp_path)
            else:
                with pytest.raises(expected) as found:
                    await looked(look, proxy.url, tmp_path)
                assert exit_code(found.value) == 9 and found.value.remedy


async def test_an_office_that_believes_to_have_another_address(behind: Any, tmp_path: Path) -> None:
    with pytest.raises(ProxyInTheWay):
        await looked(front.passes, behind[0], tmp_path)


async def test_a_letter_to_nobody_is_stored_nowhere(behind: Any, tmp_path: Path) -> None:
    """What is tried has no stamp: the office says what it costs, and keeps nothing."""
    async with AsyncClient(behind[0], tmp_path) as client:
        before = len(await client.office.headers(0))
        assert await front.bodies(client)
        assert len(await client.office.headers(0)) == before


async def test_clocks(proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours against the mint's own word and the office's Date: which is ahead, and by how much."""
    look = dict(POINTS)["clock"]
    proxy.fault = "none"
    assert "the mint and the post office" in await looked(look, proxy.url, tmp_path)
    for shift, said in ((3_600, "60 minutes ahead of the mint"), (-7_200, "120 minutes behind the mint")):
        monkeypatch.setattr(doctor, "time", SimpleNamespace(time=lambda shift=shift: time.time() + shift))
        with pytest.raises(WrongClock) as found:
            await looked(look, proxy.url, tmp_path)
        assert said in str(found.value) and found.value.remedy
    monkeypatch.setattr(doctor, "time", time)
    # The mint tells its time inside; the Date of what stands in front is another's.
    proxy.fault = "another time"
    with pytest.raises(WrongClock) as found:
        await looked(look, proxy.url, tmp_path)
    assert "ahead of the post office" in str(found.value)


METHODS = "pay_invoice make_invoice lookup_invoice get_balance get_info"
REFUSED = {"error": {"code": "UNAUTHORIZED", "message": "expired"}}
RESTRICTED = {"error": {"code": "RESTRICTED"}}
WALLETS: dict[str, tuple[dict[str, Any], type[PennypostError] | None]] = {
    "all there": ({"get_info": {"methods": METHODS.split()}}, None),
    "says nothing of itself": ({"get_info": {"error": {"code": "NOT_IMPLEMENTED"}}}, None),
    "keeps its balance to itself": ({"get_info": {"methods": METHODS.split()}, "get_balance": RESTRICTED}, None),
    "cannot pay": ({"get_info": {"methods": ["make_invoice", "lookup_invoice"]}}, WalletCannot),
    "cannot be paid": ({"get_info": {"methods": ["pay_invoice", "lookup_invoice"]}}, WalletCannot),
    "does not look up": ({"get_info": {"methods": ["pay_invoice", "make_invoice"]}}, WalletCannot),
    "expired": ({"get_info": REFUSED, "get_balance": REFUSED}, WalletRefuses),
    "nonsense": ({"get_info": {"methods": 7}}, WalletError),
}


@pytest.mark.parametrize("wallet", WALLETS)
async def test_wallets(behind: Any, tmp_path: Path, wallet: str) -> None:
    results, error = WALLETS[wallet]
    scripted = ScriptedWallet()
    scripted.results = results
    await scripted.start()
    try:
        async with AsyncClient(behind[0], tmp_path, lightning=scripted.uri) as client:
            if error is None:
                assert (await doctor._wallet(client)).startswith("answers")
            else:
                with pytest.raises(error) as found:
                    await doctor._wallet(client)
                assert exit_code(found.value) == 12 and found.value.remedy
    finally:
        await scripted.stop()


async def test_a_wallet_that_is_silent(behind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nwc, "ASKING", 0.3)
    scripted = ScriptedWallet()
    scripted.silent = True
    await scripted.start()
    try:
        async with AsyncClient(behind[0], tmp_path, lightning=scripted.uri) as client:
            with pytest.raises(WalletUnreachable):
                await doctor._wallet(client)
    finally:
        await scripted.stop()


AWAY = "http://127.0.0.1:1"
"""No server of another test can come to listen there, as it could at a port that is free for now."""
LINKS = ("nostr+walletconnect://short", "play:nowhere", "missing.link", "lnd+https://node.example", "x" * 10_000)


@pytest.mark.parametrize("link", LINKS, ids=lambda link: link[:20])
def test_a_link_that_is_none_keeps_nobody_from_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], link: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pennypost", "doctor", AWAY, "--home", "b", "--nwc", link, "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    points = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ended.value.code == 7 and [each["point"] for each in points] == [*dict(POINTS), "wallet"]
    assert points[-1]["code"] == "wallet-link" and not points[-1]["good"]


async def test_certificates(proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = certificates(tmp_path, "localhost", address="127.0.0.1")
    async with Proxy(proxy.target, tls=made.context) as secure:
        with pytest.raises(CertificateWrong) as found:
            await looked(front.tls, secure.url, tmp_path / "home")
        assert exit_code(found.value) == 9
        monkeypatch.setenv("SSL_CERT_FILE", str(made.ca))
        assert (await looked(front.tls, secure.url, tmp_path / "home")).startswith("TLSv1.")
    (tmp_path / "other").mkdir()
    other = certificates(tmp_path / "other", "elsewhere.example")
    async with Proxy(proxy.target, tls=other.context) as secure:
        monkeypatch.setenv("SSL_CERT_FILE", str(other.ca))
        with pytest.raises(CertificateWrong):
            await looked(front.tls, secure.url, tmp_path / "home")
    with pytest.raises(CertificateWrong):
        await looked(front.tls, proxy.target.replace("http:", "https:"), tmp_path / "home")
    with pytest.raises(OfficeUnreachable):
        await looked(front.tls, AWAY.replace("http:", "https:"), tmp_path / "home")


def test_every_office_is_looked_at(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "argv", ["pennypost", "doctor", "--office", f"{AWAY}, {server.url}", "--home", "b", "--json"]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    points = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ended.value.code == 7
    assert [(each["office"], each["point"]) for each in points] == [
        (office, name) for office in (AWAY, server.url) for name, _ in POINTS
    ]
    assert {each["good"] for each in points if each["office"] == server.url} == {True}
    assert {each["code"] for each in points if each["office"] == AWAY} >= {"unreachable"}


def test_the_command_goes_on_after_a_fault(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pennypost", "doctor", server.url, "--home", "bob", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    points = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ended.value.code == 0 and [each["point"] for each in points] == [name for name, _ in POINTS]
