"""The first letter in one go: serve, make keys, buy stamps, send, read; each step with its time.

It runs the `pennypost` beside this Python, with play money, on a free port and in a folder that is deleted again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PENNYPOST = Path(sys.executable).with_name("pennypost")
TEXT = "hello Bob"
STAMPS = 10


class Demo:
    """Runs commands against one server and tells how long each took."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PENNYPOST_")}
        self._environment = inherited | {
            "PENNYPOST_DATA_DIR": str(folder / "data"),
            "PENNYPOST_PLAY_SETTLE_AFTER": "0",
            "PYTHONUNBUFFERED": "1",
        }
        self._office = ""

    def step(self, what: str, started: float) -> None:
        """One line: how long it took, and what."""
        print(f"  {time.monotonic() - started:6.2f} s  {what}", flush=True)

    def serve(self) -> subprocess.Popen[str]:
        """Starts `pennypost up` and waits for its first line, which says where it serves."""
        started = time.monotonic()
        with (self.folder / "server.log").open("w") as log:
            server = subprocess.Popen(
                [PENNYPOST, "up", "--port", "0", "--json"],
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert server.stdout is not None
        line = server.stdout.readline()
        if not line:
            server.wait()
            sys.exit((self.folder / "server.log").read_text() or "the server did not start")
        self._office = json.loads(line)["url"]
        self.step(f"mint and post office at {self._office}, play money", started)
        return server

    def command(self, *words: str, home: str) -> list[Any]:
        """Runs one `pennypost … --json`: its JSON lines."""
        done = subprocess.run(
            [PENNYPOST, *words, "--json", "--home", str(self.folder / home), "--office", self._office],
            env=self._environment,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"pennypost {' '.join(words)}: exit code {done.returncode}\n{done.stderr}")
        return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]

    def run(self) -> None:
        """Every step of the tutorial."""
        started = time.monotonic()
        (bob,) = self.command("keys", "new", home="bob")
        self.step(f"Bob's key: {bob['npub']}", started)

        started = time.monotonic()
        self.command("wallet", "buy", str(STAMPS), home="alice")
        (wallet,) = self.command("wallet", "balance", home="alice")
        self.step(f"Alice bought {wallet['balance']} stamps", started)

        started = time.monotonic()
        self.command("send", bob["npub"], TEXT, home="alice")
        (wallet,) = self.command("wallet", "balance", home="alice")
        self.step(f"Alice sent {TEXT!r} with one stamp; {wallet['balance']} left", started)

        started = time.monotonic()
        letters = self.command("inbox", home="bob")
        for letter in letters:
            self.step(f"Bob read {letter['text']!r}", started)
        if [letter["text"] for letter in letters] != [TEXT] or wallet["balance"] != STAMPS - 1:
            sys.exit("that is not what was sent")


def main() -> None:
    """Serves, runs the steps, and leaves nothing behind."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pennypost-demo-") as folder:
        demo = Demo(Path(folder))
        server = demo.serve()
        try:
            demo.run()
        finally:
            server.terminate()
            server.wait(30)
    demo.step("all of it", started)


if __name__ == "__main__":
    main()
