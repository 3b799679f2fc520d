"""Foreign wallets that wait for our mint instead of asking it (NUT-17), and mint several quotes at once (NUT-29)."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from pennypost_mint.api import pay_play_invoice
from pennypost_mint.runtime.database import open_database
from tests.support.foreign import NODE, NutshellWallet
from tests.support.require import require
from tests.support.server import Server, clean_environment
from tests.support.wallets import PROGRAM

SECONDS = 60


def pay(server: Server, *requests: str) -> None:
    """What `pennypost play pay` does. A wallet is paid when it listens: what settles by itself may be faster."""

    async def paid() -> None:
        database = open_database("", server.folder / "data")
        try:
            for each in requests:
                await pay_play_invoice(database, each)
        finally:
            await database.close()

    asyncio.run(paid())


@contextmanager
def running(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_cashu_ts_waits_and_mints_a_batch(serve: Callable[..., Server]) -> None:
    require((NODE / "node_modules" / "@cashu" / "cashu-ts").exists(), "cashu-ts is not installed (make node)")
    server = serve(settings={"PLAY_SETTLE_AFTER": "never"})
    pipe = subprocess.PIPE
    with running(
        subprocess.Popen(
            [PROGRAM, "subscribe.mjs", server.url],
            cwd=NODE,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            text=True,
        )
    ) as wallet:
        assert wallet.stdout
        first = wallet.stdout.readline()
        assert first, wallet.communicate(timeout=SECONDS)[1][-2_000:]
        pay(server, *json.loads(first))
        out, errors = wallet.communicate(timeout=SECONDS)
        assert wallet.returncode == 0, errors[-4_000:]
    done = json.loads(out)
    assert sorted(done["paid"]) == ["PAID", "PAID", "UNPAID", "UNPAID"]
    assert done["checked"] == [[quote, "PAID"] for quote in done["quotes"]]
    assert done["minted"] == 8
    assert [state for state, _ in groupby(done["states"])] == ["UNSPENT", "SPENT"]
    assert len(done["states"]) == 2 * done["proofs"]
    assert done["issued"] == ["ISSUED", "ISSUED"]


def test_nutshell_waits(serve: Callable[..., Server], tmp_path: Path) -> None:
    """Where a mint announces subscriptions, Nutshell's command waits for them alone: it ends because it was told."""
    server = serve(settings={"PLAY_SETTLE_AFTER": "never"})
    wallet = NutshellWallet(tmp_path / "nutshell", server.url)
    with running(wallet.begin("invoice", "21")) as buying:
        assert buying.stdout
        # It shows the invoice after it has asked to be told, and remembers then that it did.
        shown = ""
        while not (found := re.search(r"Invoice: (lnbcrt\w+)\s", shown)):
            line = buying.stdout.readline()
            assert line, shown
            shown += line
        pay(server, found[1])
        shown += buying.communicate(timeout=SECONDS)[0]
        assert buying.returncode == 0, shown
    assert "Invoice paid" in shown
    assert "Balance: 21 sat" in wallet.run("balance")
