"""Events signed beforehand: stealth wraps of a padded letter, as a client posts them, made once and kept for a while.

Each is kind 1059 by a fresh key, with `p`, `vt` and `expiration`; the content has the length and the look of NIP-44
(version, nonce, text padded to 768, 896 or 1,024 bytes, MAC), so that an event has 1.7 to 2.0 KiB.
"""

from __future__ import annotations

import base64
import os
import random
import secrets
import time
from pathlib import Path

from pennypost.protocol import secp
from pennypost.protocol.event import event_json, sign_event
from tests.bench.processes import pool

KEEP = 30 * 86_400
"""Seconds until they expire."""
FRESH = 7 * 86_400
"""Seconds after which they are made anew."""
PART = 1_000
PADDED = (768, 896, 1_024)


def letter() -> bytes:
    """The JSON of one event."""
    now = int(time.time())
    tags = [["p", secrets.token_hex(32)], ["vt", secrets.token_hex(4)], ["expiration", str(now + KEEP)]]
    sealed = b"\2" + os.urandom(32 + 2 + random.choice(PADDED) + 32)
    secret = secrets.token_bytes(32)
    while not secp.valid_secret(secret):
        secret = secrets.token_bytes(32)
    return event_json(
        sign_event(
            secret,
            created_at=now,
            kind=1059,
            tags=tags,
            content=base64.b64encode(sealed).decode(),
            aux=os.urandom(32),
        )
    )


def _part(count: int) -> list[bytes]:
    return [letter() for _ in range(count)]


def letters(folder: Path, count: int) -> list[bytes]:
    """`count` events, JSON each; read from `folder/letters.jsonl`, which is made or lengthened where need be."""
    path = folder / "letters.jsonl"
    if path.exists() and path.stat().st_mtime < time.time() - FRESH:
        path.unlink()
    found: list[bytes] = []
    if path.exists():
        with path.open("rb") as file:
            found = [line.rstrip(b"\n") for _, line in zip(range(count), file, strict=False)]
    missing = count - len(found)
    if missing > 0:
        made = path.stat().st_mtime if found else time.time()
        with pool() as processes, path.open("ab") as file:
            parts = [min(PART, missing - start) for start in range(0, missing, PART)]
            for part in processes.map(_part, parts):
                file.write(b"\n".join(part) + b"\n")
                found += part
        os.utime(path, (made, made))
    return found
