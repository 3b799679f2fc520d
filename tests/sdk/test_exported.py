"""What `import pennypost` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pennypost
from pennypost import PennypostError


def test_every_name_is_there() -> None:
    for name in pennypost.__all__:
        assert getattr(pennypost, name) is not None
    assert set(pennypost.__all__) <= set(dir(pennypost))
    assert sorted(pennypost.__all__) == pennypost.__all__


def test_unknown_name() -> None:
    with pytest.raises(AttributeError):
        _ = pennypost.nothing  # pyright: ignore[reportAttributeAccessIssue]


def test_sandbox_is_the_function_whatever_was_imported_before() -> None:
    program = "import pennypost.client, pennypost._sandbox; from pennypost import sandbox; print(callable(sandbox))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "True\n"


def test_import_loads_nothing_else() -> None:
    assert loaded("import pennypost", "pennypost.", "httpx", "asyncio", "typer", "cffi") == []


def test_clients_and_commands_load_neither_network_nor_server() -> None:
    names = ("httpx", "websockets", "fastapi", "sqlalchemy", "pennypost_mint", "pennypost_postoffice", "segno")
    assert loaded("from pennypost import Client, AsyncClient; import pennypost.cli", *names) == []


def loaded(statement: str, *names: str) -> list[str]:
    """Which of these modules a fresh interpreter has after the statement, and had not before."""
    program = f"import sys; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    found = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    return sorted(module for module in found if module.startswith(names))


def test_errors_are_one_tree() -> None:
    for name in pennypost.__all__:
        found = getattr(pennypost, name)
        if isinstance(found, type) and issubclass(found, Exception):
            assert issubclass(found, PennypostError)
