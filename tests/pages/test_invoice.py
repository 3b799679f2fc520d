"""The sum that the pages read in an invoice is the one that the SDK reads, and that BOLT 11 gives."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from pennypost.protocol.bolt11 import parse_invoice
from pennypost.protocol.errors import PennypostError
from tests.pages.test_build import PAGES
from tests.support.require import require
from tests.support.wallets import PROGRAM

VECTORS = Path(__file__).parents[1] / "vectors" / "bolt11.json"
MADE: dict[str, float | None] = {
    "lnbcrt100n1pvjluez": 10,
    "LNBCRT100N1PVJLUEZ": 10,
    "lnbcrt1pvjluez": None,
    "lntb20m1pvjluez": 2_000_000,
    "lnbc21pvjluez": 200_000_000,
    "lnbc0n1pvjluez": None,
    "lnbc010n1pvjluez": None,
    "lnbc10x1pvjluez": None,
    "lnbc-10n1pvjluez": None,
    "lnbc1٠n1pvjluez": None,
    "bc10n1pvjluez": None,
    "lightning:lnbc10n1pvjluez": None,
    "": None,
    "1": None,
}


def test_sums() -> None:
    require((PAGES / "node_modules" / "esbuild").exists(), "esbuild is not installed (make node)")
    wanted = dict(MADE)
    for _, invoice in json.loads(VECTORS.read_text())["valid"]:
        try:
            msat = parse_invoice(invoice).amount_msat
        except PennypostError:
            continue
        wanted[invoice] = None if msat is None else msat / 1_000
    assert len(wanted) > len(MADE) + 5
    done = subprocess.run(
        [PROGRAM, "test/invoice.mjs"],
        cwd=PAGES,
        input=json.dumps(list(wanted)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert dict(zip(wanted, json.loads(done.stdout), strict=True)) == wanted
