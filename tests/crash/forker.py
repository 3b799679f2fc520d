"""Starts servers in half the time: the program is loaded once, each server is a fork of it.

A line of JSON on stdin (environment, folder, log, points, clock) is answered by the server's process id on stdout.
Nothing but the loading is saved: the child runs `serve` as `pennypost up` does. `python -m tests.crash.forker`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

from pennypost_mint.runtime.settings import load_settings
from pennypost_postoffice.serve import serve
from tests.crash import points
from tests.faults import clock


def main() -> None:
    """Forks for each line until stdin is closed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _child(order)
        print(pid, flush=True)


def _child(order: dict[str, Any]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.chdir(order["folder"])
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.environ.clear()
    os.environ.update(order["environment"])
    random.seed()
    code = 1
    try:
        if order["points"]:
            points.install(Path(order["points"]))
        if order["clock"]:
            clock.install(Path(order["clock"]))
        serve(load_settings)
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
