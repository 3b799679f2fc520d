"""A mint, a post office and play money in this process, for first contact and tests; found by an entry point.

It is the same service as `pennypost up`, on a SQLite file in a temporary folder, with the cryptography in the
caller's process and invoices that settle at once.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from pennypost_mint.runtime.settings import load_settings
from pennypost_postoffice.app import Service

URL = "http://pennypost.sandbox"


class Sandbox:
    """The ASGI application of a whole service; `start` and `stop` belong to one event loop."""

    url = URL

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._service: Service | None = None

    @property
    def asgi(self) -> Any:
        """The ASGI 3 application; usable between start and stop."""
        assert self._service is not None, "the sandbox is not started"
        return self._service.asgi

    async def start(self) -> None:
        """Makes the folder, the schema, the seed and the service."""
        self._folder = tempfile.TemporaryDirectory(prefix="pennypost-")
        settings = load_settings(
            {},
            data_dir=Path(self._folder.name),
            public_url=URL,
            play_settle_after="0",
            name="pennypost sandbox",
            # Everybody here is one process, and so one source.
            rate_limit=0,
        )
        self._service = await Service.open(settings, in_process=True)

    async def stop(self) -> None:
        """Ends the service and deletes the folder with all it held."""
        if self._service is not None:
            await self._service.close()
        if self._folder is not None:
            self._folder.cleanup()


def open_sandbox() -> Sandbox:
    """A sandbox that is not started yet."""
    return Sandbox()
