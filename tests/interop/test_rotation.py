"""Other people's wallets while our mint rotates: they go on, with one refresh at most, and lose nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.support.foreign import NODE, NutshellWallet
from tests.support.require import require
from tests.support.server import Server, clean_environment
from tests.support.wallets import PROGRAM


def operator(server: Server, *words: str) -> Any:
    """`pennypost mint …` with the server's settings: its JSON."""
    program = Path(sys.executable).with_name("pennypost")
    done = subprocess.run(
        [program, "mint", *words, "--json"],
        env=server.environment,
        cwd=server.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)


def rotate(server: Server) -> str:
    """The new keyset's id; the server knows of it when this returns."""
    made = operator(server, "rotate")["id"]
    [active] = httpx.get(f"{server.url}/v1/keys", trust_env=False).json()["keysets"]
    assert active["id"] == made
    return made


def test_cashu_ts_goes_on(server: Server) -> None:
    require((NODE / "node_modules" / "@cashu" / "cashu-ts").exists(), "cashu-ts is not installed (make node)")
    wallet = subprocess.Popen(
        [PROGRAM, "rotate.mjs", server.url],
        cwd=NODE,
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert wallet.stdout and wallet.stdin
        assert wallet.stdout.readline() == "ready\n", wallet.communicate(timeout=10)[1][-2_000:]
        new = rotate(server)
        out, errors = wallet.communicate("go\n", timeout=60)
    finally:
        wallet.kill()
        wallet.wait()
    assert wallet.returncode == 0, errors[-4_000:]
    found: dict[str, Any] = json.loads(out)
    assert found["balance"] == 12
    assert found["after"] == new != found["before"]
    assert found["keysets"] == [new]
    assert found["refusals"] == [12002]


def test_nutshell_goes_on(serve: Callable[..., Server], tmp_path: Path) -> None:
    """With ids of version 1, for it meets those of version 2 everywhere else; then it receives a token given away."""
    server = serve(settings={"KEYSET_VERSION": "1"})
    wallet = NutshellWallet(tmp_path / "nutshell", server.url)
    wallet.buy(8)
    rotate(server)
    (token,) = re.findall(r"cashuB[\w-]+=*", wallet.run("send", "3"))
    rotate(server)
    assert "Received 3 sat" in wallet.run("receive", token)
    wallet.buy(4)
    assert "Received 21 sat" in wallet.run("receive", operator(server, "issue", "21")["token"])
    (balance,) = re.findall(r"^Balance: (\d+) sat", wallet.run("balance"), re.MULTILINE)
    assert balance == "33"
