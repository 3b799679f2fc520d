"""The linters, run as tests: a change that breaks one of them breaks the suite."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "."),
        ("ruff", "format", "--check", "."),
        ("pyright",),
        ("lint-imports", "--no-logo", "--no-cache"),
    ],
    ids=" ".join,
)
def test_lint(command: tuple[str, ...]) -> None:
    done = subprocess.run([BIN / command[0], *command[1:]], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]


@pytest.mark.parametrize(
    "path", sorted((PROJECT / "client_sdk/pennypost/protocol").glob("*.py")), ids=lambda path: path.stem
)
def test_the_protocol_imports_nothing_else_of_the_sdk(path: Path) -> None:
    imported = {
        name
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }
    assert not [name for name in imported if f"{name}.".startswith("pennypost.") and "pennypost.protocol" not in name]
