"""Channels of a home: keys that members share, and posts that look like everybody's letters (wire contract, 5).

channels.py   create, invite, post, remove, sell: what the owner's word changes     Channels
reader.py     one pass over the feed for all channels                               Post
book.py       what the home keeps: keys as long as they may open something          Channel
"""

from __future__ import annotations

from pennypost.channels.book import KEEP, Channel
from pennypost.channels.channels import PERIOD, Channels
from pennypost.channels.reader import Post

__all__ = ["KEEP", "PERIOD", "Channel", "Channels", "Post"]
