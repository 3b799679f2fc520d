"""`pennypost doctor` in front of real faults: proxies that do one thing wrong, certificates, clocks, wallets."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from pennypost import AsyncClient
from pennypost.cli import front
from pennypost.cli.doctor import POINTS
from pennypost.cli.exit_codes import exit_code
from pennypost.protocol.errors import (
    CertificateWrong,
    OfficeMisbehaves,
    OfficeUnreachable,
    PennypostError,
    ProxyInTheWay,
)
from tests.support.http import certificates
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.server import Server


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A real server that believes to stand behind a proxy, and the proxy's port."""
    port = free_port()
    settings = {"PUBLIC_URL": f"http://127.0.0.1:{port}", "PLAY_SETTLE_AFTER": "0"}
    with Server(tmp_path_factory.mktemp("behind"), settings=settings) as server:
        yield server.url, port


@pytest.fixture
async def proxy(behind: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    monkeypatch.setattr(front, "PATIENCE", 1.5)
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
    "compresses": {"way": OfficeMisbehaves, "connection": OfficeMisbehaves},
    "redirects": {"way": OfficeMisbehaves, "connection": OfficeMisbehaves},
    "answers alone": {"way": ProxyInTheWay, "connection": ProxyInTheWay},
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_proxy_with_one_fault(proxy: Proxy, tmp_path: Path, fault: str) -> None:
    proxy.fault = fault
    for name, look in (("tls", front.tls), ("way", front.passes), ("connection", front.websocket)):
        expected = FAULTS[fault].get(name)
        if expected is None:
            assert await looked(look, proxy.url, tmp_path)
        else:
            with pytest.raises(expected) as found:
                await looked(look, proxy.url, tmp_path)
            assert exit_code(found.value) == 9 and found.value.remedy


async def test_an_office_that_believes_to_have_another_address(behind: Any, tmp_path: Path) -> None:
    with pytest.raises(ProxyInTheWay):
        await looked(front.passes, behind[0], tmp_path)


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
        await looked(front.tls, f"https://127.0.0.1:{free_port()}", tmp_path / "home")


def test_every_office_is_looked_at(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pennypost.cli import main

    away = f"http://127.0.0.1:{free_port()}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "argv", ["pennypost", "doctor", "--office", f"{away}, {server.url}", "--home", "b", "--json"]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    points = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ended.value.code == 7
    assert [(each["office"], each["point"]) for each in points] == [
        (office, name) for office in (away, server.url) for name, _ in POINTS
    ]
    assert {each["good"] for each in points if each["office"] == server.url} == {True}
    assert {each["code"] for each in points if each["office"] == away} >= {"unreachable"}


def test_the_command_goes_on_after_a_fault(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pennypost.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pennypost", "doctor", server.url, "--home", "bob", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    points = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ended.value.code == 0 and [each["point"] for each in points] == [name for name, _ in POINTS]
