"""A test run that is killed leaves no process behind."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.support.guard import Guard
from tests.support.installed import PROJECT

SCRIPT = """
import subprocess, sys
from tests.support.guard import Guard
sleeper = subprocess.Popen(["sleep", "600"], start_new_session=True)
guard = Guard("kill", "-KILL", "--", f"-{sleeper.pid}")
print(sleeper.pid, flush=True)
sys.stdin.read()
"""


def test_what_was_started_ends_with_a_killed_run() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        sleeper = psutil.Process(int(run.stdout.readline()))
        assert sleeper.is_running()
        run.kill()
    deadline = time.monotonic() + 60
    # whoever inherits it may leave a zombie, which is gone as far as we are concerned
    with contextlib.suppress(psutil.NoSuchProcess):
        while sleeper.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_dismissed_guard_does_nothing(tmp_path: Path) -> None:
    guard = Guard("touch", str(tmp_path / "ran"))
    guard.dismiss()
    assert not (tmp_path / "ran").exists()
