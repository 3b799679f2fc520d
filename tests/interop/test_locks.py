"""Foreign wallets lock stamps of our mint and open them again (NUT-11, NUT-14)."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from tests.support.foreign import NutshellWallet, node
from tests.support.server import Server


def test_cashu_ts_locks_and_unlocks(server: Server) -> None:
    done = node("locks.mjs", server.url)
    assert len(done) == 7
    for name, found in done.items():
        assert found["received"] == 3, name
        assert set(found["states"]) == {"SPENT"}, name
        # Unsigned, then with a signature of nobody; for the third the wallet or the mint says no.
        assert found["refused"][:2] == ([] if name == "expired" else [10001, 10001]), name
        assert None not in found["refused"], name
    assert set(done["htlc"]["preimages"]) == {done["htlc"]["preimage"]}


def test_nutshell_wallet_locks_to_a_key(server: Server, tmp_path: Path) -> None:
    """Sent to another wallet's key: a third cannot take it, its owner can."""
    sender, owner, thief = (NutshellWallet(tmp_path / name, server.url) for name in ("sender", "owner", "thief"))
    sender.buy(21)
    lock, *_ = re.findall(r"P2PK:0[23][0-9a-f]{64}", owner.run("lock", "p2pk"))
    (token,) = re.findall(r"cashuB[\w-]+=*", sender.run("send", "5", "--lock", lock))
    with contextlib.suppress(AssertionError):
        thief.run("receive", token)
    assert "Balance: 0 sat" in thief.run("balance")
    assert "Received 5 sat" in owner.run("receive", token)
