"""Foreign wallets that wait for our mint instead of asking it (NUT-17), and mint several quotes at once (NUT-29)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from pathlib import Path

from tests.support.foreign import NutshellWallet, node
from tests.support.server import Server


def test_cashu_ts_waits_and_mints_a_batch(serve: Callable[..., Server]) -> None:
    server = serve(settings={"PLAY_SETTLE_AFTER": "1"})
    done = node("subscribe.mjs", server.url)
    assert sorted(done["paid"]) == ["PAID", "PAID", "UNPAID", "UNPAID"]
    assert done["checked"] == [[quote, "PAID"] for quote in done["quotes"]]
    assert done["minted"] == 8
    assert [state for state, _ in groupby(done["states"])] == ["UNSPENT", "SPENT"]
    assert len(done["states"]) == 2 * done["proofs"]
    assert done["issued"] == ["ISSUED", "ISSUED"]


def test_nutshell_waits(serve: Callable[..., Server], tmp_path: Path) -> None:
    """Where a mint announces subscriptions, Nutshell's command waits for them alone: it ends because it was told."""
    # late enough for the wallet to have its subscription: see NutshellWallet.buy
    server = serve(settings={"PLAY_SETTLE_AFTER": "3"})
    wallet = NutshellWallet(tmp_path / "nutshell", server.url)
    assert "Invoice paid" in wallet.run("invoice", "21")
    assert "Balance: 21 sat" in wallet.run("balance")
