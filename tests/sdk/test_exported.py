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
    program = (
        "import sys; before = set(sys.modules); import pennypost; "
        "print(sorted(m for m in set(sys.modules) - before if m.startswith(('pennypost.', 'httpx', 'asyncio', 'typer'))))"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"


def test_client_needs_neither_network_nor_server_modules() -> None:
    program = (
        "import sys; from pennypost import Client, AsyncClient; import pennypost.cli; "
        "print([m for m in ('httpx', 'websockets', 'fastapi', 'sqlalchemy', 'pennypost_mint', 'segno') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"


def test_errors_are_one_tree() -> None:
    for name in pennypost.__all__:
        found = getattr(pennypost, name)
        if isinstance(found, type) and issubclass(found, Exception):
            assert issubclass(found, PennypostError)
