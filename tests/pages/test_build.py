"""What is built and committed is what the sources give, byte for byte."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.require import require
from tests.support.wallets import PROGRAM

PROJECT = Path(__file__).parents[2]
PAGES = PROJECT / "postoffice" / "pages"
BUILT = PROJECT / "postoffice" / "pennypost_postoffice" / "pages" / "built"


def node(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs Node in the pages' folder."""
    require((PAGES / "node_modules" / "esbuild").exists(), "esbuild is not installed (make node)")
    return subprocess.run([PROGRAM, *arguments], cwd=PAGES, capture_output=True, text=True, timeout=100)


def files(folder: Path) -> dict[str, bytes]:
    """The files directly in a folder."""
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}


def test_built_files_are_those_of_the_sources(tmp_path: Path) -> None:
    done = node("build.mjs", tmp_path)
    assert done.returncode == 0, done.stderr
    made = files(tmp_path)
    assert made == files(BUILT), "run `make pages` and commit what it built"
    assert "base.css" in made["manifest.json"].decode()


def test_types() -> None:
    done = node("node_modules/typescript/bin/tsc", "--project", "tsconfig.json")
    assert done.returncode == 0, done.stdout
