"""Every step between a parsed frame and the crypto, in one place and in this order.

    1  read the event strictly                     2  its id is the hash of the rest
    3  policy: kind, size, time, price             4  the stamp's cheap half
    5  remembered?  a look-up instead of crypto    6  into the verify stage

Each step passes or raises; what raises here has cost no crypto and touched no stamp. A missing or bad stamp is not
answered at once: the event may be stored already, and then the answer is "duplicate", whatever the stamp.
"""

from __future__ import annotations

from collections.abc import Set
from hashlib import sha256
from typing import TYPE_CHECKING

from pennypost.protocol.errors import (
    EventTooFarAhead,
    EventTooOld,
    InvalidEvent,
    InvalidInput,
    KeysetUnknown,
    MintError,
    PennypostError,
    QuotaFull,
    StampError,
    StampUnknownKeyset,
    StampWrongMint,
)
from pennypost.protocol.event import (
    KIND_DELETION,
    KIND_VANISH,
    canonical,
    check_id,
    event_json,
    is_ephemeral,
    parse_event,
)
from pennypost.protocol.hold import hold_of
from pennypost_postoffice.auth import check_auth, check_room
from pennypost_postoffice.deletion import read_deletion
from pennypost_postoffice.post import Post
from pennypost_postoffice.postmark import wants_postmark
from pennypost_postoffice.rows import address_of
from pennypost_postoffice.vanish import check_vanish

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
    if read.kind == KIND_VANISH:
        check_vanish(read, office.relay_names)
    try:
        post.postage = office.policy.check(read, len(serialized), now, post.sender)
    except (EventTooFarAhead, EventTooOld) as error:
        if is_ephemeral(read.kind) or read.kind in (KIND_DELETION, KIND_VANISH):
            raise
        # It may be stored, and our clock put back or the limit changed since: then this is a repeat, its stamp spent.
        describe(post)
        post.refusal = error
        office.verifier.put(post)
        return
    describe(post)
    post.postmark = wants_postmark(options)
    post.unpaid = post.postage.free
    if post.unpaid:
        _unpaid(office, post)
    if not post.postage.free and not is_ephemeral(read.kind):
        _stamp(office, post, token, options, now)
    office.verifier.put(post)


def describe(post: Post) -> None:
    """Fills in what follows from the event alone, signed or not."""
    read = post.event
    post.id = bytes.fromhex(read.id)
    post.pubkey = bytes.fromhex(read.pubkey)
    post.body = event_json(read)
    post.address = address_of(read)
    post.hold = hold_of(read)
    post.deletion = read_deletion(read)


def _unpaid(office: Office, post: Post) -> None:
    """A letter that its price rule asks nothing for is as any other while there is room; a free kind cannot be held."""
    if not post.is_unpriced:
        if post.hold is not None:
            raise InvalidEvent("an event of a free kind cannot be held")
    elif office.unpriced.is_full(office.settings):
        # unless it is stored already
        post.refusal = QuotaFull()


def _stamp(office: Office, post: Post, token: object, options: object, now: int) -> None:
    wrong = _blanks(office, post, options) if options is not None else None
    try:
        stamp = post.stamp = office.stamps.read(token, post.postage.sat, now, post.sender.origin)
        if wrong is not None:
            raise wrong
        if post.blanks:
            post.outputs = office.stamps.change(stamp.sat - post.postage.sat, post.blanks, now)
    except StampWrongMint as error:
        _foreign_stamp(office, post, token, options, error)
    except (StampError, MintError, InvalidInput) as error:
        post.stamp = None
        post.refusal = error
        if isinstance(error, (StampUnknownKeyset, KeysetUnknown)):
            post.unread = (token, options)


def _blanks(office: Office, post: Post, options: object) -> PennypostError | None:
    """Reads the blank outputs whatever the stamp is: a repeat without one gets its change again."""
    try:
        post.blanks = office.stamps.blanks(options)
    except (MintError, InvalidInput) as error:
        return error
    return None


def _foreign_stamp(office: Office, post: Post, token: object, options: object, otherwise: StampError) -> None:
    post.refusal = otherwise
    if office.foreign is None:
        return
    try:
        stamp = office.foreign.read(token, post.postage.sat)
        if stamp is None:
            return
        if isinstance(options, dict) and "change" in options and stamp.sat > post.postage.sat:
            raise InvalidInput("change is given for stamps of our own mint alone; attach the price")
        post.foreign, post.refusal = stamp, None
    except (StampError, InvalidInput) as error:
        post.refusal = error


def read_again(office: Office, post: Post) -> None:
    """Reads a stamp whose keyset was not known once more: another process may have made it a moment ago."""
    assert post.unread is not None
    token, options = post.unread
    post.refusal = post.unread = None
    _stamp(office, post, token, options, office.now())
    post.unread = None


def accept_auth(office: Office, post: Post, event: object, challenge: str, names: Set[str]) -> None:
    """Takes an AUTH event on its way to the verify stage; `names` as of `auth.own_names`.

    Raises InvalidEvent, InvalidSignature, AuthInvalid or TooManyKeys.
    """
    read = post.event = parse_event(event)
    check_id(read)
    check_auth(read, challenge, office.relay_names | names, office.now())
    check_room(read.pubkey, post.sender.authenticated)
    post.id = bytes.fromhex(read.id)
    post.pubkey = bytes.fromhex(read.pubkey)
    post.body = b""
    office.verifier.put(post)
