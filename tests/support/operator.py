"""An operator of a running server, as schemathesis needs one: signed in, signing, or nobody."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

import requests
from requests.auth import AuthBase
from schemathesis import Case

from pennypost.protocol.nip98 import http_auth
from tests.support.server import Server

KEY = bytes([5]) * 32
"""The operator's secret key."""


class Signs(AuthBase):
    """Signs each request as it is sent (NIP-98)."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        assert request.url is not None and request.method is not None
        # the same request twice in a second would be one that was used
        now, aux = int(time.time()) - secrets.randbelow(50), secrets.token_bytes(32)
        header = http_auth(KEY, url=request.url, method=request.method, body=body, now=now, aux=aux)
        request.headers["Authorization"] = header
        return request


class Operator:
    """Prepares cases of the server's document (support.openapi.Prepare)."""

    def __init__(self, server: Server, session: requests.Session) -> None:
        self._server, self._session = server, session
        self._cookie = ""
        self._key = ""

    def sign_in(self) -> None:
        """With the operator's key."""
        url = f"{self._server.url}/operator/login"
        answer = self._session.post(url, data=secrets.token_hex(8), auth=Signs(), allow_redirects=False)
        assert answer.status_code == 303, answer.text
        self._cookie = answer.headers["set-cookie"].partition(";")[0]
        self._session.cookies.clear()
        page = self._session.get(f"{self._server.url}/operator/money", headers={"cookie": self._cookie})
        found = re.search(r'name="key" value="([0-9a-f]{64})"', page.text)
        assert found is not None
        self._key = found[1]

    def stranger(self, case: Case) -> Mapping[str, Any]:
        """Sends what is drawn."""
        self._session.cookies.clear()
        return {}

    def signed_in(self, case: Case) -> Mapping[str, Any]:
        """In a session, from a page of this site, with the key of its forms where a form is what is drawn."""
        if not self._cookie:
            self.sign_in()
        if isinstance(case.body, dict) and "key" in case.body:
            case.body["key"] = self._key
        case.cookies.clear()
        for name in [each for each in case.headers if each.lower() == "authorization"]:
            del case.headers[name]
        sent = {"Cookie": self._cookie, "Origin": self._server.url}
        if case.path == "/operator/logout":
            self._cookie = ""
        return {"headers": sent}

    def signing(self, case: Case) -> Mapping[str, Any]:
        """Each request signed by the operator's key."""
        case.cookies.clear()
        return {"auth": Signs()}
