"""Who comes in: where the pages are served at all, who is signed in, and that a form is one of ours.

request ─▶ is_open ─▶ session (cookie) ─▶ a form: Origin is this site, and the form's key is the session's
                          ├ none ─▶ sign-in: bounded by source, a link or a signed request, a cookie
                          └ none, a file (JSON, CSV) ─▶ signed itself: `use_signature`
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pennypost.protocol.errors import FormRefused, HttpAuthInvalid, LinkInvalid, NotFound, SignInNeeded, TooMany
from pennypost_mint.runtime.limits import SIGN_IN_BURST, SIGN_IN_RATE, TokenBucket
from pennypost_mint.runtime.settings import Settings
from pennypost_mint.runtime.sources import Source, Sources
from pennypost_postoffice.operators import Operators
from pennypost_postoffice.pages.operator.sign_in import (
    SESSION_SECONDS,
    Session,
    begin_on,
    end_on,
    is_link_on,
    is_secret,
    session_on,
    use_link_on,
)

if TYPE_CHECKING:
    from pennypost_postoffice.pages.operator.house import House

PATH = "/operator"
LOGIN = f"{PATH}/login"

PROXY = ("forwarded", "via", "x-real-ip")
"""Headers of proxies, beside all of X-Forwarded-*."""


def is_served(settings: Settings, headers: Mapping[str, str] | None = None) -> bool:
    """Whether the pages are there: as set, else where the address is https, or nobody but this machine reaches it.

    With a request's `headers`: for this request. A proxy on this machine brings in everybody, and so does a name that
    a site has point at it (DNS rebinding): the one says so, the other stands in Host.
    """
    if settings.operator_pages != "auto":
        return settings.operator_pages == "on"
    if _is_tls(settings):
        return True
    return (
        _is_loopback(settings.host)
        and _is_loopback(_hostname(settings.url))
        and (headers is None or (_is_loopback(_hostname(f"//{headers.get('host', '')}")) and not _is_proxied(headers)))
    )


def cookie_name(settings: Settings) -> str:
    """The session's; browsers take a `__Secure-` one over TLS alone."""
    return "__Secure-pennypost-operator" if _is_tls(settings) else "pennypost-operator"


def _is_tls(settings: Settings) -> bool:
    return settings.url.startswith("https://")


def _is_proxied(headers: Mapping[str, str]) -> bool:
    return any(name.lower().startswith("x-forwarded-") or name.lower() in PROXY for name in headers)


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_signed(headers: Mapping[str, str]) -> bool:
    """Whether the request brings a signature of its own (NIP-98); a proxy may ask for other credentials there."""
    return headers.get("authorization", "").lower().startswith("nostr ")


class Gate:
    """Of one process."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._operators = Operators(house.database, house.settings, house.now)
        self._sources = Sources(house.settings().proxies)
        self._tries = TokenBucket(SIGN_IN_RATE, SIGN_IN_BURST, monotonic)

    def is_open(self, headers: Mapping[str, str]) -> None:
        """Raises NotFound where the pages are not served, or not to this request."""
        if not is_served(self._house.settings(), headers):
            raise NotFound

    async def session(self, headers: Mapping[str, str]) -> Session:
        """Of the request's cookie. Raises SignInNeeded."""
        secret = self._cookie(headers)
        found = await self._house.database.read(session_on, secret, self._house.now()) if is_secret(secret) else None
        if found is None or (found.pubkey is not None and found.pubkey not in self._operators.public_keys()):
            raise SignInNeeded
        return found

    def check_form(self, headers: Mapping[str, str], form: Mapping[str, str], session: Session) -> None:
        """Raises FormRefused unless a page of ours, in this session, sent it."""
        self.check_origin(headers)
        if not hmac.compare_digest(form.get("key", "").encode(), session.form_key.encode()):
            raise FormRefused

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Raises FormRefused unless the browser says that a page of this address sent it."""
        host, ours = headers.get("host", ""), urlsplit(self._house.settings().url)
        # the public address, or the one that the request came to: a tunnel has another
        if headers.get("origin") not in (f"{ours.scheme}://{ours.netloc}", f"http://{host}", f"https://{host}"):
            raise FormRefused

    async def use_link(self, scope: Mapping[str, Any], headers: Mapping[str, str], secret: str) -> str:
        """The cookie of a session that a link begins. Raises LinkInvalid, FormRefused, TooMany."""
        self.check_origin(headers)
        now = self._house.now()
        with self._wrong_is_charged(scope):
            # looked at first: a guess must not wait for, or hold, the one who writes
            if not is_secret(secret) or not await self._house.database.read(is_link_on, secret, now):
                raise LinkInvalid
            return self._set(await self._house.database.write(use_link_on, secret, now))

    async def use_key(self, scope: Mapping[str, Any], headers: Mapping[str, str], body: bytes) -> str:
        """The cookie of a session for an operator who signed the request (NIP-98, POST). Raises HttpAuthInvalid,
        FormRefused, TooMany, and NotFound where no key may."""
        if "origin" in headers:
            self.check_origin(headers)
        url = self._house.settings().url + LOGIN
        with self._wrong_is_charged(scope):
            header = headers.get("authorization")
            event = await self._operators.authorize(header, urls=(url,), method="POST", body=body)
            return self._set(await self._house.database.write(begin_on, event.pubkey, self._house.now()))

    async def use_signature(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """Lets one GET pass that an operator signed (NIP-98) for its whole address, query and all; each once, as with
        management (NIP-86). Raises HttpAuthInvalid, NotFound where no key may, and TooMany after wrong ones."""
        query = scope["query_string"].decode("latin-1")
        url = self._house.settings().url + scope["path"] + f"?{query}" * bool(query)
        with self._wrong_is_charged(scope):
            await self._operators.authorize(headers.get("authorization"), urls=(url,), method="GET", body=b"")

    async def sign_out(self, session: Session) -> str:
        """The cookie that ends it in the browser, too."""
        await self._house.database.write(end_on, session.secret)
        return self._set("", 0)

    @contextmanager
    def _wrong_is_charged(self, scope: Mapping[str, Any]) -> Iterator[None]:
        """Wrong links and signatures are charged to their source and past the limit told to wait. A right one is taken
        all the same: where all visitors are one source, a stranger's tries must not keep the operator out."""
        try:
            yield
        except (LinkInvalid, HttpAuthInvalid):
            source = self._source(scope)
            if not self._tries.take(source):
                raise self._too_many(source) from None
            raise

    def _source(self, scope: Mapping[str, Any]) -> Source:
        self._sources.trust(self._house.settings().proxies)
        return self._sources.of(scope)

    def _too_many(self, source: Source) -> TooMany:
        error = TooMany()
        error.retry_after = int(self._tries.wait(source)) + 1
        return error

    @property
    def _name(self) -> str:
        return cookie_name(self._house.settings())

    def _cookie(self, headers: Mapping[str, str]) -> str:
        # by hand: SimpleCookie drops all of them for one of another program that it cannot read
        for each in headers.get("cookie", "").split(";"):
            name, _, value = each.strip().partition("=")
            if name == self._name:
                return value
        return ""

    def _set(self, secret: str, seconds: int = SESSION_SECONDS) -> str:
        secure = "; Secure" if _is_tls(self._house.settings()) else ""
        return f"{self._name}={secret}; Path={PATH}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
