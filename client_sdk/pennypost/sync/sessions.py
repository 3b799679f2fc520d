"""The sync face of sessions; see client.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pennypost.mail import Receipt
from pennypost.outbox import PATIENCE
from pennypost.threads import LoopThread

if TYPE_CHECKING:
    from pennypost.client import AsyncClient


class Sessions:
    """The sync face of pennypost.sessions.sessions.Sessions."""

    def __init__(self, client: AsyncClient, thread: LoopThread) -> None:
        self._client, self._thread = client, thread

    def publish(self, *, once: str | None = None, dry_run: bool = False, patience: float = PATIENCE) -> Receipt:
        """As pennypost.sessions.sessions.Sessions.publish."""
        return self._thread.call(self._client.sessions.publish(once=once, dry_run=dry_run, patience=patience))

    def word(self) -> str:
        """As pennypost.sessions.sessions.Sessions.word."""
        return self._thread.call(self._client.sessions.word())

    def introduce(
        self, to: str, *, once: str | None = None, dry_run: bool = False, patience: float = PATIENCE
    ) -> Receipt:
        """As pennypost.sessions.sessions.Sessions.introduce."""
        return self._thread.call(self._client.sessions.introduce(to, once=once, dry_run=dry_run, patience=patience))

    def meet(self, word: str) -> str:
        """As pennypost.sessions.sessions.Sessions.meet."""
        return self._thread.call(self._client.sessions.meet(word))

    def addresses(self, who: str) -> list[str]:
        """As pennypost.sessions.sessions.Sessions.addresses."""
        return self._thread.call(self._client.sessions.addresses(who))

    def forget(self, who: str, device: str | None = None) -> int:
        """As pennypost.sessions.sessions.Sessions.forget."""
        return self._thread.call(self._client.sessions.forget(who, device))
