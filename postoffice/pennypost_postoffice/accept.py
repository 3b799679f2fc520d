"""Every step between a parsed frame and the crypto, in one place and in this order.

    1  read the event strictly                     2  its id is the hash of the rest
    3  policy: kind, size, time, price             4  the stamp's cheap half
    5  remembered?  a look-up instead of crypto    6  into the verify stage

Each step passes or raises; what raises here has cost no crypto and touched no stamp. A missing or bad stamp is not
answered at once: the event may be stored already, and then the answer is "duplicate", whatever the stamp.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from pennypost.protocol.errors import InvalidInput, MintError, StampError
from pennypost.protocol.event import canonical, check_id, event_json, is_ephemeral, parse_event
from pennypost_postoffice.auth import check_auth
from pennypost_postoffice.deletion import read_deletion
from pennypost_postoffice.post import Post
from pennypost_postoffice.rows import address_of

if TYPE_CHECKING:
    from pennypost_postoffice.office import Office


def accept(office: Office, post: Post, event: object, token: object, options: object) -> None:
    """Takes one event on its way; the sender is answered later, once. `event` is JSON or a decoded object.

    Raises InvalidEvent, InvalidSignature, PolicyError or InvalidInput: then nothing was taken, and nobody else answers.
    """
    now = office.now()
    read = post.event = parse_event(event)
    serialized = canonical(read)
    if sha256(serialized).hexdigest() != read.id:
        check_id(read)
    post.postage = office.policy.check(read, len(serialized), now, post.sender)
    post.id = bytes.fromhex(read.id)
    post.pubkey = bytes.fromhex(read.pubkey)
    post.body = event_json(read)
    post.address = address_of(read)
    post.deletion = read_deletion(read)
    if not post.postage.free and not is_ephemeral(read.kind):
        _stamp(office, post, token, options, now)
    office.verifier.put(post)


def _stamp(office: Office, post: Post, token: object, options: object, now: int) -> None:
    try:
        stamp = post.stamp = office.stamps.read(token, post.postage.sat, now, post.sender.origin)
        if options is not None:
            post.blanks = office.stamps.blanks(options, now)
            post.outputs = office.stamps.change(stamp.sat - post.postage.sat, post.blanks)
    except (StampError, MintError, InvalidInput) as error:
        post.stamp = None
        post.refusal = error


def accept_auth(office: Office, post: Post, event: object, challenge: str) -> None:
    """Takes an AUTH event on its way to the verify stage. Raises InvalidEvent, InvalidSignature or AuthInvalid."""
    read = post.event = parse_event(event)
    check_id(read)
    check_auth(read, challenge, office.relay_names | {post.sender.origin}, office.now())
    post.id = bytes.fromhex(read.id)
    post.pubkey = bytes.fromhex(read.pubkey)
    post.body = b""
    office.verifier.put(post)
