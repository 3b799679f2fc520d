"""A real LNbits as a process, in an environment of its own (`make lnbits`), before an LND node of the bed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx

from tests.support.foreign import PROJECT
from tests.support.ports import free_port
from tests.support.require import require

ENVIRONMENT = PROJECT / ".cache" / "lnbits"
READY_SECONDS = 120


class Lnbits:
    """One LNbits that asks nobody but `node` (an entry of `LightningBed.nodes`) and listens on loopback."""

    def __init__(self, folder: Path, node: dict[str, Any], macaroon: Path) -> None:
        program = ENVIRONMENT / "bin" / "lnbits"
        require(program.exists() and (ENVIRONMENT / ".done").exists(), "LNbits is not installed (make lnbits)")
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self._log = folder / "lnbits.log"
        self._folder = folder
        # it looks for its static files below the working directory
        (packages,) = (ENVIRONMENT / "lib").glob("python3.*/site-packages/lnbits")
        (folder / "lnbits").symlink_to(packages)
        self._command = [program, "--host", "127.0.0.1", "--port", str(port)]
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LNBITS_DATA_FOLDER": str(folder / "data"),
            "LNBITS_EXTENSIONS_PATH": str(folder / "data"),
            "LNBITS_BACKEND_WALLET_CLASS": "LndRestWallet",
            "LND_REST_ENDPOINT": node["rest"],
            "LND_REST_CERT": node["tls_cert"],
            "LND_REST_MACAROON": str(macaroon),
            "AUTH_SECRET_KEY": "test",
            # nothing is fetched from anywhere
            "LNBITS_ADMIN_UI": "false",
            "LNBITS_EXTENSIONS_MANIFESTS": "[]",
            "LNBITS_WASM_EXTENSIONS_MANIFESTS": "[]",
            "LNBITS_EXTENSIONS_DEFAULT_INSTALL": "[]",
            "LNBITS_PRICE_AGGREGATOR_ENABLED": "false",
            "LNBITS_EXCHANGE_RATE_PROVIDERS": "[]",
            "LNBITS_RATE_LIMIT_NO": "100000",
            "LNBITS_ALLOW_CUSTOM_WALLET_LIGHTNING_ADDRESSES": "true",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits until it answers; accounts and invoices stay."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_SECONDS
        with httpx.Client(trust_env=False, timeout=5) as client:
            while time.monotonic() < deadline:
                assert self._process.poll() is None, self._tail()
                try:
                    if client.get(f"{self.url}/api/v1/health").status_code == 200:
                        return
                except httpx.TransportError:
                    time.sleep(0.1)
        raise AssertionError(f"LNbits was not ready:\n{self._tail()}")

    def account(self) -> str:
        """A new account with one wallet: its invoice/read key."""
        with httpx.Client(trust_env=False, timeout=20) as client:
            made = client.post(f"{self.url}/api/v1/account", json={"name": "till"})
        assert made.status_code == 200, made.text
        return made.json()["inkey"]

    def address(self, name: str) -> tuple[str, str]:
        """A new account with a Lightning address: the address and its invoice/read key."""
        with httpx.Client(base_url=self.url, trust_env=False, timeout=20) as client:
            made = client.post("/api/v1/account", json={"name": name}).json()
            named = client.patch(
                "/api/v1/wallet", json={"lightning_address": name}, headers={"X-Api-Key": made["adminkey"]}
            )
        assert named.status_code == 200, named.text
        return f"{name}@{self.url.removeprefix('http://')}", made["inkey"]

    def comments(self, key: str) -> list[str]:
        """What payers wrote to this wallet."""
        with httpx.Client(base_url=self.url, trust_env=False, timeout=20) as client:
            found = client.get("/api/v1/payments", headers={"X-Api-Key": key}).json()
        return [each["extra"]["comment"] for each in found if each["status"] == "success"]

    def freeze(self) -> None:
        """It stays there and does nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Ends it, whatever its state."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _signal(self, number: int) -> None:
        # it serves from a child of its own: the whole group is meant
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-3_000:]
