"""A bounded memory of what was stored and spent lately, so that a repeat costs a look-up and no crypto.

It only says where to look: the database decides every answer.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from pennypost_mint.runtime.limits import RECENT
from pennypost_postoffice.post import Post


class Recent:
    """The last `size` event ids and stamp secrets."""

    def __init__(self, size: int = RECENT) -> None:
        self._size = size
        self._ids: dict[bytes, None] = {}
        self._ys: dict[str, bytes] = {}

    def remember(self, post: Post, *, spent: bool) -> None:
        """An event that is stored or refused after it was verified; `spent`: its stamp is of no use any more."""
        self._ids[post.id] = None
        if spent and post.stamp is not None:
            for proof, y in zip(post.stamp.proofs, post.ys, strict=True):
                self._ys[proof[2]] = y
        _trim(self._ids, self._size)
        _trim(self._ys, self._size)

    def recall(self, post: Post) -> None:
        """Sets `post.memory` when its id or one of its proofs is remembered."""
        known: tuple[bytes, ...] = ()
        if post.stamp is not None:
            for proof in post.stamp.proofs:
                if proof[2] in self._ys:
                    known += (self._ys[proof[2]],)
        if known or post.id in self._ids:
            post.memory = known


def _trim(memory: dict[Any, Any], size: int) -> None:
    # a quarter at once: removing the first of a dict one by one walks over the holes it leaves
    if len(memory) > size:
        for key in list(islice(memory, size // 4)):
            del memory[key]
