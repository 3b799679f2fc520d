"""Two real LND nodes and btcd on regtest: the mint's node and one that pays (`tests/lightning_bed`)."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx

from pennypost.protocol.bolt11 import parse_invoice
from tests.support.guard import Guard


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


BED = Path(__file__).parents[1] / "lightning_bed"
SOURCES = ("lnd/go.mod", "lnd/go.sum", "lnd/build.sh")
CLEAN = '"$1" "$2" down "$0"; rm -rf "$0"'
"""Run when the test process is gone; $0 is the bed's folder."""


def programs() -> Path | None:
    """The folder with `lnd` and `btcd`: LND_BIN, or what `make lnd` built for this go.sum; None without them."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = hashlib.sha256(b"".join((BED / name).read_bytes() for name in SOURCES)).hexdigest()[:16]
    named = os.environ.get("LND_BIN")
    for folder in ([Path(named)] if named else []) + [cache / "pennypost" / f"lnd-{key}"]:
        if (folder / "lnd").exists() and (folder / "btcd").exists():
            return folder
    return None


class LightningBed:
    """A running bed. `settings` are what the mint needs to use its node (without `PENNYPOST_`)."""

    def __init__(self, folder: Path) -> None:
        self._programs = folder
        # not below pytest's folder: LND's paths may not become too long, and the files hold keys
        self.folder = Path(tempfile.mkdtemp(prefix="pennypost-bed-"))
        self._guard = Guard("sh", "-c", CLEAN, str(self.folder), sys.executable, str(BED / "lnd_bed.py"))
        self._bed("up")
        self.nodes: dict[str, Any] = json.loads((self.folder / "lnd.json").read_text())

    def _bed(self, command: str, *more: str, seconds: float = 240) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, BED / "lnd_bed.py", command, self.folder, *more],
            env=os.environ | {"LND_BIN": str(self._programs)},
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        if command == "up" and done.returncode:
            self._guard.dismiss()
            shutil.rmtree(self.folder, ignore_errors=True)
            raise RuntimeError(f"the Lightning bed did not start:\n{done.stderr[-2_000:]}")
        return done

    @property
    def settings(self) -> dict[str, str]:
        """Settings of a mint that takes payments at the bed's office node."""
        office = self.nodes["office"]
        return {
            "LIGHTNING": "lnd",
            "LND_URL": office["rest"],
            "LND_MACAROON_FILE": office["macaroon"],
            "LND_CERT_FILE": office["tls_cert"],
        }

    def pay(self, bolt11: str, seconds: int = 60) -> bool:
        """The payer pays: whether it arrived. RuntimeError when the payer could not be asked."""
        done = self._bed("pay", bolt11, str(seconds))
        if done.returncode not in (0, 1):
            raise RuntimeError(f"paying: {done.stdout[-500:]}{done.stderr[-500:]}")
        return done.returncode == 0

    def pay_amount(self, bolt11: str, sat: int) -> bool:
        """The payer sends another amount than the invoice asks for: whether it arrived."""
        invoice = parse_invoice(bolt11)
        order = {
            "dest": _base64(invoice.payee),
            "amt": str(sat),
            "payment_hash": _base64(invoice.payment_hash),
            "payment_addr": _base64(invoice.payment_secret),
            "dest_features": ["TLV_ONION_REQ", "PAYMENT_ADDR_REQ", "MPP_OPT"],
            "final_cltv_delta": 80,
        }
        return self._send(order)["status"] == "SUCCEEDED"

    def pay_in_parts(self, bolt11: str, parts: int) -> int:
        """The payer splits the payment, in so many parts at most: how many arrived, 0 when it did not."""
        whole = parse_invoice(bolt11).amount_msat or 0
        done = self._send(
            {"payment_request": bolt11, "max_parts": parts, "max_shard_size_msat": str(-(-whole // parts))}
        )
        return sum(part["status"] == "SUCCEEDED" for part in done["htlcs"]) if done["status"] == "SUCCEEDED" else 0

    def send_part(self, bolt11: str, msat: int) -> bool:
        """The payer sends one part, which the node holds until the others are there: whether it was taken."""
        invoice = parse_invoice(bolt11)
        office = self.nodes["office"]["pubkey"]
        with self._payer() as client:
            query = {"amt_msat": str(msat), "final_cltv_delta": "80"}
            route = client.get(f"/v1/graph/routes/{office}/0", params=query).json()["routes"][0]
            whole = {"payment_addr": _base64(invoice.payment_secret), "total_amt_msat": str(invoice.amount_msat)}
            route["hops"][-1] |= {"mpp_record": whole, "tlv_payload": True}
            order = {"payment_hash": _base64(invoice.payment_hash), "route": route}
            done = client.post("/v2/router/route/send", json=order)
        assert done.status_code == 200, done.text
        return done.json()["status"] == "SUCCEEDED"

    def parts_held(self, bolt11: str) -> int:
        """How many parts of an unfinished payment the mint's node holds."""
        with self._client("office", self.admin_macaroon()) as client:
            found = client.get(f"/v1/invoice/{parse_invoice(bolt11).payment_hash.hex()}").json()
        return sum(part["state"] == "ACCEPTED" for part in found["htlcs"])

    def _send(self, order: dict[str, Any]) -> dict[str, Any]:
        """The payment's last state as LND's router tells it."""
        limits = {"timeout_seconds": 20, "fee_limit_msat": "10000", "no_inflight_updates": True}
        with self._payer() as client:
            done = client.post("/v2/router/send", json=order | limits)
        assert done.status_code == 200, done.text
        return done.json()["result"]

    def _payer(self) -> httpx.Client:
        return self._client("payer", self.admin_macaroon("payer"))

    def _client(self, node: str, macaroon: Path) -> httpx.Client:
        trusted = ssl.create_default_context(cafile=self.nodes[node]["tls_cert"])
        trusted.check_hostname = False
        return httpx.Client(
            base_url=self.nodes[node]["rest"],
            headers={"Grpc-Metadata-macaroon": macaroon.read_bytes().hex()},
            verify=trusted,
            trust_env=False,
            timeout=60,
        )

    def admin_macaroon(self, node: str = "office") -> Path:
        """The macaroon with every right, for programs that sit between the mint and the node."""
        return self.folder / node / "data/chain/bitcoin/regtest/admin.macaroon"

    def command(self, name: str, *more: str) -> None:
        """`freeze`, `thaw`, `stop-mint-node`, `restart-mint-node`, `mine`: see lnd_bed.py."""
        done = self._bed(name, *more)
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr[-500:]}")

    def down(self) -> None:
        """Ends every process of the bed and deletes its files."""
        self._bed("down")
        self._guard.dismiss()
        shutil.rmtree(self.folder, ignore_errors=True)
