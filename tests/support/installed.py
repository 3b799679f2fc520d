"""The built wheel in an empty environment: what a stranger has after `pip install`."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.server import clean_environment

PROJECT = Path(__file__).parents[2]


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Test processes that share a folder pass through one after another."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=PROJECT, env=clean_environment(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command}:\n{done.stdout[-2_000:]}{done.stderr[-4_000:]}")


def install_wheel(folder: Path, lock: str = "server") -> Path:
    """Builds the wheel and installs it with a lock of requirements/ below `folder`, once; returns its `bin`."""
    with only_one(folder.with_suffix(".lock")):
        bin_folder = folder / "venv" / "bin"
        done = folder / "done"
        if not done.exists():
            _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, PROJECT)
            (wheel,) = folder.glob("pennypost-*.whl")
            venv.create(folder / "venv", with_pip=True)
            pip = [bin_folder / "python", "-m", "pip", "--disable-pip-version-check", "install", "-q"]
            _run(*pip, "--require-hashes", "-r", PROJECT / "requirements" / f"{lock}.txt")
            _run(*pip, "--no-deps", wheel)
            done.touch()
        return bin_folder
