"""Names as people say them, `bob@example.com`, and the answer of the server that knows them (NIP-05).

parse_name("bob@example.com") ─▶ Name ─▶ url ─▶ GET ─▶ read_key(answer, name) ─▶ 32-byte public key
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from pennypost.protocol import secp
from pennypost.protocol.errors import InvalidKey, NameUnknown, OfficeMisbehaves

MAX_NAME: Final = 320
"""Characters of a name: 64 before the @, 255 behind it."""
ANSWER_LIMIT: Final = 256 * 1024
"""Bytes of an answer; a server without a program lists all of its names."""

_LOCAL: Final = re.compile(r"[a-z0-9._-]{1,64}")
_HOST: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}(\.[a-z0-9][a-z0-9-]{0,62})*(:[0-9]{1,5})?")
_KEY: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Name:
    """A name in its lower-case form."""

    local: str
    host: str
    """With its port, where it has one."""

    def __str__(self) -> str:
        return f"{self.local}@{self.host}"

    @property
    def url(self) -> str:
        """Where the key is asked for: https alone, so that nobody on the way can answer."""
        return f"https://{self.host}/.well-known/nostr.json?name={self.local}"


def is_name(text: str) -> bool:
    """Whether this is meant as a name: no key has an @ in it."""
    return "@" in text


def parse_name(text: str) -> Name:
    """`name@domain` (NIP-05). Raises InvalidKey.

    Names are of a-z, 0-9, `-`, `_` and `.`; capitals count as small letters.
    """
    local, _, host = text.strip().partition("@")
    local, host = local.lower() if local.isascii() else "", host.lower() if host.isascii() else ""
    if len(text) > MAX_NAME or not _LOCAL.fullmatch(local) or not _HOST.fullmatch(host):
        raise InvalidKey("a name looks like bob@example.com")
    if int(host.partition(":")[2] or "1") not in range(1, 65536):
        raise InvalidKey("a name looks like bob@example.com")
    return Name(local, host)


def read_key(answer: bytes, name: Name) -> bytes:
    """The public key (32 bytes) of a name in the answer to it. Raises NameUnknown, OfficeMisbehaves.

    The relays that the answer may name are not read: they are a stranger's, and nobody dials them.
    """
    try:
        found: Any = msgspec.json.decode(answer, type=dict[str, Any]).get("names")
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise OfficeMisbehaves("the server of this name gives an answer that cannot be read") from None
    if not isinstance(found, dict):
        raise OfficeMisbehaves("the server of this name gives an answer that cannot be read")
    text: Any = found.get(name.local)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if text is None:
        raise NameUnknown
    if not isinstance(text, str) or not _KEY.fullmatch(text):
        raise OfficeMisbehaves("the server of this name gives a key that is none")
    key = bytes.fromhex(text)
    try:
        secp.lift_x(key)
    except InvalidKey:
        raise OfficeMisbehaves("the server of this name gives a key that is none") from None
    return key
