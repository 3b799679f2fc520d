"""Two real LND nodes and btcd on regtest: the mint's node and one that pays (`tests/lightning_bed`)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BED = Path(__file__).parents[1] / "lightning_bed"
SOURCES = ("lnd/go.mod", "lnd/go.sum", "lnd/build.sh")


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

    def command(self, name: str, *more: str) -> None:
        """`freeze`, `thaw`, `stop-mint-node`, `restart-mint-node`, `mine`: see lnd_bed.py."""
        done = self._bed(name, *more)
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr[-500:]}")

    def down(self) -> None:
        """Ends every process of the bed and deletes its files."""
        self._bed("down")
        shutil.rmtree(self.folder, ignore_errors=True)
