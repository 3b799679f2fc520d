"""The sync face of channels; see client.py."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pennypost.channels.book import KEEP, Channel
from pennypost.channels.channels import PERIOD
from pennypost.channels.channels import Channels as AsyncChannels
from pennypost.channels.reader import Post
from pennypost.exchange import Progress
from pennypost.mail import Privacy, Receipt
from pennypost.outbox import PATIENCE
from pennypost.threads import LoopThread


class Channels:
    """The sync face of pennypost.channels.Channels."""

    def __init__(self, channels: AsyncChannels, thread: LoopThread) -> None:
        self._channels, self._thread = channels, thread

    def create(self, name: str, *, posters: Iterable[str] = (), period: int = PERIOD) -> Channel:
        """As pennypost.channels.Channels.create."""
        return self._thread.call(self._channels.create(name, posters=posters, period=period))

    def all(self) -> list[Channel]:
        """As pennypost.channels.Channels.all."""
        return self._thread.call(self._channels.all())

    def members(self, channel: str) -> list[str]:
        """As pennypost.channels.Channels.members."""
        return self._thread.call(self._channels.members(channel))

    def invite(self, channel: str, who: str, *, dry_run: bool = False, patience: float = PATIENCE) -> Receipt:
        """As pennypost.channels.Channels.invite."""
        return self._thread.call(self._channels.invite(channel, who, dry_run=dry_run, patience=patience))

    def remove(
        self,
        channel: str,
        who: str,
        *,
        dry_run: bool = False,
        patience: float = PATIENCE,
        on_progress: Progress | None = None,
    ) -> list[Receipt]:
        """As pennypost.channels.Channels.remove."""
        return self._thread.call(
            self._channels.remove(channel, who, dry_run=dry_run, patience=patience, on_progress=on_progress)
        )

    def allow(
        self,
        channel: str,
        posters: Iterable[str],
        *,
        dry_run: bool = False,
        patience: float = PATIENCE,
        on_progress: Progress | None = None,
    ) -> list[Receipt]:
        """As pennypost.channels.Channels.allow."""
        return self._thread.call(
            self._channels.allow(channel, posters, dry_run=dry_run, patience=patience, on_progress=on_progress)
        )

    def retell(
        self,
        channel: str,
        *,
        dry_run: bool = False,
        patience: float = PATIENCE,
        on_progress: Progress | None = None,
    ) -> list[Receipt]:
        """As pennypost.channels.Channels.retell."""
        return self._thread.call(
            self._channels.retell(channel, dry_run=dry_run, patience=patience, on_progress=on_progress)
        )

    def join(self, channel: str) -> Channel:
        """As pennypost.channels.Channels.join."""
        return self._thread.call(self._channels.join(channel))

    def leave(self, channel: str) -> None:
        """As pennypost.channels.Channels.leave."""
        self._thread.call(self._channels.leave(channel))

    def sell(self, channel: str, *, at: int | None = None) -> str:
        """As pennypost.channels.Channels.sell."""
        return self._thread.call(self._channels.sell(channel, at=at))

    def post(
        self,
        channel: str,
        text: str,
        *,
        keep: int = KEEP,
        once: str | None = None,
        dry_run: bool = False,
        patience: float = PATIENCE,
        on_progress: Progress | None = None,
    ) -> Receipt:
        """As pennypost.channels.Channels.post."""
        return self._thread.call(
            self._channels.post(
                channel,
                text,
                keep=keep,
                once=once,
                dry_run=dry_run,
                patience=patience,
                on_progress=on_progress,
            )
        )

    def read(
        self,
        channel: str | None = None,
        *,
        watch: bool = False,
        privacy: Privacy = "fast",
        on_progress: Progress | None = None,
    ) -> Iterator[Post]:
        """As pennypost.channels.Channels.read."""
        posts = self._channels.read(channel, watch=watch, privacy=privacy, on_progress=on_progress)

        async def next_post() -> Post | None:
            return await anext(posts, None)

        try:
            while (post := self._thread.call(next_post())) is not None:
                yield post
        finally:
            # Not waited for: a generator may be given up anywhere, also in the loop's own thread.
            self._thread.start(posts.aclose())
