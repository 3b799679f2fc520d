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
    """A file or page: its bytes, the same by gzip, its media type, an entity tag (with its quotes) for each form."""

    body: bytes
    packed: bytes
    media_type: str
    etag: str
    packed_etag: str

    @classmethod
    def of(cls, body: bytes, media_type: str) -> Asset:
        """These bytes as they are served."""
        mark = sha256(body).hexdigest()[:32]
        return cls(body, gzip.compress(body, 9, mtime=0), media_type, f'"{mark}"', f'"{mark}-gzip"')


@cache
def assets() -> dict[str, Asset]:
    """All built files by the name that is in their address."""
    found: dict[str, Asset] = {}
    for each in files("pennypost_postoffice.pages").joinpath("built").iterdir():
        if (media_type := TYPES.get(each.name.rpartition(".")[2])) is not None:
            found[each.name] = Asset.of(each.read_bytes(), media_type)
    return found


@cache
def _names() -> dict[str, str]:
    return json.loads(files("pennypost_postoffice.pages").joinpath("built", "manifest.json").read_text("utf-8"))


def asset_url(name: str) -> str:
    """The address of a built file by its name in the sources ("base.css", "buy.js"). KeyError for any other."""
    return PATH + _names()[name]
