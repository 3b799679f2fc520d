"""The built files, read once: each under a name with its hash, so it may be kept for ever."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files

TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}

PATH = "/assets/"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: its bytes, the same compressed, its media type and its entity tag (with the quotes)."""

    body: bytes
    compressed: bytes
    media_type: str
    etag: str


@cache
def assets() -> dict[str, Asset]:
    """All built files by the name that is in their address."""
    found: dict[str, Asset] = {}
    for each in files(__package__).joinpath("built").iterdir():
        if (media_type := TYPES.get(each.name.rpartition(".")[2])) is not None:
            found[each.name] = _asset(each.read_bytes(), media_type)
    return found


@cache
def _names() -> dict[str, str]:
    return json.loads(files(__package__).joinpath("built", "manifest.json").read_text("utf-8"))


def asset_url(name: str) -> str:
    """The address of a built file by its name in the sources ("base.css", "buy.js"). KeyError for any other."""
    return PATH + _names()[name]


def _asset(body: bytes, media_type: str) -> Asset:
    return Asset(body, gzip.compress(body, 9, mtime=0), media_type, entity_tag(body))


def entity_tag(body: bytes) -> str:
    """The strong entity tag of these bytes, with its quotes."""
    return f'"{sha256(body).hexdigest()[:32]}"'
