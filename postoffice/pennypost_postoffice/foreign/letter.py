"""The letter of a row of the journal, for its commit when nobody waits for it any more."""

from __future__ import annotations

from time import monotonic

from pennypost.protocol.errors import PennypostError
from pennypost.protocol.event import parse_event
from pennypost.protocol.price import Postage, PriceList, keep_until
from pennypost_postoffice.accept import describe
from pennypost_postoffice.foreign.journal import Entry
from pennypost_postoffice.post import Post, Sender
from pennypost_postoffice.rows import feed_record, tag_keys


def kept_until(entry: Entry, prices: PriceList) -> int | None:
    """Unix seconds until which it is kept; None for a row of the treasury's own."""
    if entry.body is None:
        return None
    event = parse_event(entry.body)
    try:
        return keep_until(event, prices)
    except PennypostError:
        # the rule for its kind is gone since
        return keep_until(event, PriceList())


def letter_of(entry: Entry, sender: Sender, prices: PriceList) -> Post:
    """The event of a row as a commit takes it; what it pays is for the caller (`Post.pay`)."""
    assert entry.body is not None
    post = Post(sender, monotonic())
    post.event = parse_event(entry.body)
    post.postage = Postage(0, kept_until(entry, prices) or 0, free=True)
    describe(post)
    post.tag_keys = tag_keys(post.event)
    post.record = feed_record(post.event)
    return post
