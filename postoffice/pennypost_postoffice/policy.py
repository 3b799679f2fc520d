"""What this office accepts, as an ordered list of small functions: cheap ones first, each passes or raises.

To change what is accepted, change or add one function here and name it in RULES; `accept` calls them in this order.
None of them looks at the stamp, so none can cost it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pennypost.protocol.errors import (
    AuthRequired,
    EventExpired,
    EventTooFarAhead,
    EventTooOld,
    InvalidEvent,
    NotAllowed,
    PennypostError,
)
from pennypost.protocol.event import KIND_AUTH, KIND_DELETION, KIND_VANISH, Event, expiration, is_ephemeral, parse_event
from pennypost.protocol.price import Postage, PriceList, postage
from pennypost_mint.runtime.limits import (
    EPHEMERAL_SECONDS,
    FORMER_PRICES,
    FREE_SECONDS,
)
from pennypost_mint.runtime.settings import Settings
from pennypost_postoffice.bans import Bans
from pennypost_postoffice.former_prices import Former
from pennypost_postoffice.free import FreeRate
from pennypost_postoffice.post import Sender

REPOSTS = (6, 16)
"""Kinds whose content is another event (NIP-18)."""


class Policy:
    """The rules of one office. `clock` gives monotonic seconds, for the rates."""

    def __init__(self, prices: PriceList, settings: Settings, clock: Callable[[], float]) -> None:
        self.prices = prices
        self._settings = settings
        self._clock = clock
        self.former: Sequence[Former] = ()
        """Prices of before, the newest first."""
        self.bans = Bans()
        self._new_rates()

    def change_settings(self, settings: Settings) -> None:
        """Other limits from now on; where a rate is another one, what was saved up begins anew."""
        before, self._settings = self._settings, settings
        if _rates(before) != _rates(settings):
            self._new_rates()

    def _new_rates(self) -> None:
        free, all_free, unpriced, all_unpriced, ephemeral, all_ephemeral = _rates(self._settings)
        self._free = FreeRate(free, FREE_SECONDS, all_free, self._clock)
        self._unpriced = FreeRate(unpriced, FREE_SECONDS, all_unpriced, self._clock)
        self._ephemeral = FreeRate(ephemeral, EPHEMERAL_SECONDS, all_ephemeral, self._clock)

    def check(self, event: Event, size: int, now: int, sender: Sender) -> Postage:
        """Runs every rule; returns the price. `size` is that of the canonical form in bytes, `now` in Unix seconds.

        Raises Banned, InvalidEvent, KindRefused, EventTooFarAhead, EventTooOld, AuthRequired, EventExpired, TooLong,
        WorkRequired or TooMany.
        """
        if event.kind != KIND_VANISH:
            # NIP-62: also for whoever may not post
            self.bans.check(event)
        for rule in RULES:
            rule(event, size, now, sender, self._settings)
        if event.kind == KIND_VANISH:
            self._free.take(sender)
            return Postage(0, now, free=True)
        if is_ephemeral(event.kind):
            not_expired(event, now)
            self.prices.check_work(event)
            self._ephemeral.take(sender)
            return Postage(0, now, free=True)
        found = postage(event, size, now, self.prices)
        if self.former:
            found = self._honoured(event, size, now, found)
        if event.kind == KIND_DELETION or (found.free and not found.unpriced):
            # only the commit knows which deletions are free, and it leaves their stamps untouched
            self._free.take(sender)
        elif found.unpriced:
            self._unpriced.take(sender)
        return found

    def change_prices(self, prices: PriceList, now: int) -> None:
        """Asks other prices from `now` on (Unix seconds); a lower one of before is honoured for a while.

        Clients read prices once a day. What is kept for how long, and which kinds are taken, changes at once.
        """
        if prices != self.prices:
            self.former = (Former(self.prices, now), *self.former)[:FORMER_PRICES]
            self.prices = prices

    def _honoured(self, event: Event, size: int, now: int, found: Postage) -> Postage:
        """The lowest price that a client may still have read."""
        grace = self._settings.price_grace
        self.former = [former for former in self.former if former.ended_at + grace > now]
        for former in self.former:
            try:
                before = postage(event, size, now, former.prices)
            except PennypostError:
                continue  # it was not taken at all then
            if before.sat < found.sat:
                found = Postage(before.sat, found.keep_until, before.free, before.unpriced)
        return found


def _rates(settings: Settings) -> tuple[float, ...]:
    names = ("free_rate", "unpriced_rate", "ephemeral_rate")
    return tuple(getattr(settings, each) for name in names for each in (name, f"all_{name}"))


def no_auth_as_event(event: Event, size: int, now: int, sender: Sender, limits: Settings) -> None:
    """NIP-42: kind 22242 is never published."""
    if event.kind == KIND_AUTH:
        raise InvalidEvent("kind 22242 belongs into an AUTH message")


def not_too_large(event: Event, size: int, now: int, sender: Sender, limits: Settings) -> None:
    """An event is bounded apart from its frame, for it is stored and sent again."""
    if size > limits.max_event:
        raise InvalidEvent(f"more than {limits.max_event} bytes")
    if len(event.tags) > limits.max_tags:
        raise InvalidEvent(f"more than {limits.max_tags} tags")


def not_of_another_time(event: Event, size: int, now: int, sender: Sender, limits: Settings) -> None:
    """NIP-11, created_at_upper_limit and created_at_lower_limit."""
    if event.created_at > now + limits.max_ahead:
        raise EventTooFarAhead
    if limits.max_behind and event.created_at < now - limits.max_behind:
        raise EventTooOld


def not_expired(event: Event, now: int) -> None:
    """NIP-40 of ephemeral events, which have no price; that of the others is checked with it."""
    until = expiration(event)
    if until is not None and until <= now:
        raise EventExpired


def protected_by_its_author(event: Event, size: int, now: int, sender: Sender, limits: Settings) -> None:
    """NIP-70: an event tagged `-` is taken from its authenticated author alone."""
    for tag in event.tags:
        if tag[0] == "-" and event.pubkey not in sender.authenticated:
            raise AuthRequired


def embeds_nothing_protected(event: Event, size: int, now: int, sender: Sender, limits: Settings) -> None:
    """NIP-70: a repost does not carry a protected event to where its author did not send it."""
    if event.kind not in REPOSTS or not event.content:
        return
    try:
        embedded = parse_event(event.content)
    except InvalidEvent:
        return
    if any(tag[0] == "-" for tag in embedded.tags):
        raise NotAllowed("a repost must not hold a protected event")


Rule = Callable[[Event, int, int, Sender, Settings], None]

RULES: tuple[Rule, ...] = (
    no_auth_as_event,
    not_too_large,
    not_of_another_time,
    protected_by_its_author,
    embeds_nothing_protected,
)
