"""Published test vectors, read from tests/vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "vectors"


def load(name: str) -> Any:
    """The decoded JSON file of that name."""
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))
