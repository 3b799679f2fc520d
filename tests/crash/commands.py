"""Runs the command line in processes that kill themselves (SIGKILL) at a numbered step of their journal.

Each transaction of the home is two steps: just before it is begun, when what was asked before has its answer, and just
after it is durable. A line of JSON on stdin (arguments, environment, output file, step) is answered by exit status and
steps passed. The program is loaded once, each command is a fork of it. `python -m tests.crash.commands`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pennypost.client  # loaded once, for every fork
import pennypost.play  # noqa: F401
from pennypost.cli import main as run_command
from pennypost.store import Store

NEVER = 1_000_000


class Commands:
    """Where commands come from."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.commands"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str], output: Path, step: int = NEVER
    ) -> tuple[int, int]:
        """Run `pennypost …`, killed at a step: its status (-9 where it was killed), and how many steps it passed."""
        asked, answered = self._process.stdin, self._process.stdout
        assert asked is not None and answered is not None
        order = {"arguments": list(arguments), "environment": dict(environment), "output": str(output), "step": step}
        print(json.dumps(order), file=asked, flush=True)
        status, passed = json.loads(answered.readline())
        return status, passed

    def end(self) -> None:
        """No more commands."""
        self._process.communicate()


def main() -> None:
    """Forks for each line until stdin is closed."""
    for line in sys.stdin:
        order = json.loads(line)
        count = Path(order["output"]).with_suffix(".steps")
        count.write_bytes(b"")
        pid = os.fork()
        if pid == 0:
            _child(order, count)
        _, status = os.waitpid(pid, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), count.stat().st_size]), flush=True)


def _child(order: dict[str, Any], count: Path) -> None:
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    sys.stdin = open(0)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(order["environment"])
    random.seed()
    steps = os.open(count, os.O_WRONLY | os.O_APPEND)
    passed, run = 0, Store.run

    def step() -> None:
        nonlocal passed
        if passed == order["step"]:
            os.kill(os.getpid(), signal.SIGKILL)
        passed += 1
        os.write(steps, b".")

    async def counted(self: Store, *args: Any, **options: Any) -> Any:
        step()
        result = await run(self, *args, **options)
        step()
        return result

    Store.run = counted  # type: ignore[method-assign]
    sys.argv = ["pennypost", *order["arguments"]]
    code = 1
    try:
        run_command()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
