"""The operator's pages over HTTP.

    GET  /operator/money             HTML; /operator/money.json the same as JSON; so for each of PAGES
    GET  /operator/money/days.csv    one of its tables; so, and as .json, for each of them
    POST /operator/bans              a form of it, where it has one
    GET, POST /operator/login        a link's page and its use; a signed request (NIP-98)
    POST /operator/logout

A JSON or CSV file may also be read by a request that an operator signed (NIP-98), without a session. Caches keep
nothing of this. `referrer-policy` is same-origin: under no-referrer browsers hide a form's Origin.
"""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable, Mapping
from types import ModuleType
from urllib.parse import parse_qsl

import msgspec
from fastapi import APIRouter, Request, Response

from pennypost.protocol.errors import BodyTooLarge, InvalidInput, PennypostError, SignInNeeded
from pennypost_mint.runtime.limits import KIB
from pennypost_mint.runtime.logs import logger
from pennypost_mint.runtime.openapi import Operation, declared
from pennypost_postoffice.pages.markup import Html, inside, tag
from pennypost_postoffice.pages.operator import bans, health, keysets, login, money, prices, quotes
from pennypost_postoffice.pages.operator.gate import LOGIN, PATH, Gate, is_signed
from pennypost_postoffice.pages.operator.house import House
from pennypost_postoffice.pages.operator.openapi import (
    FIRST,
    LOGIN_PAGE,
    SIGN_IN,
    SIGN_OUT,
    a_form,
    a_page,
    a_table,
    its_json,
    pages_of,
)
from pennypost_postoffice.pages.operator.sign_in import Session
from pennypost_postoffice.pages.operator.view import View, button, form, notice
from pennypost_postoffice.pages.security import security_headers
from pennypost_postoffice.pages.shell import document

HTML = "text/html; charset=utf-8"
MAX_FORM = 64 * KIB
FIELDS = 16
LOGOUT = f"{PATH}/logout"

PAGES: Mapping[str, ModuleType] = {
    "money": money,
    "health": health,
    "quotes": quotes,
    "prices": prices,
    "bans": bans,
    "keysets": keysets,
}

Handler = Callable[[Request], Awaitable[Response]]

log = logger("operator")


def operator_router(house: House) -> APIRouter:
    """The routes of a process of any role."""
    router = APIRouter(tags=["operator"])
    gate = Gate(house)

    def add(method: str, path: str, handler: Handler, what: Operation) -> None:
        async def endpoint(request: Request) -> Response:
            gate.is_open(request.headers)
            try:
                return _packed(request, await handler(request))
            except PennypostError as error:
                if request.url.path.endswith((".json", ".csv")) or "authorization" in request.headers:
                    raise
                return _packed(request, _refused(house, request, error))

        router.add_api_route(path, endpoint, methods=[method], response_class=Response, **declared(what))

    async def first(_request: Request) -> Response:
        return _redirect(money.PATH)

    async def sign_in_page(request: Request) -> Response:
        return _login(house, request.query_params.get("link", ""), "")

    async def sign_in(request: Request) -> Response:
        body = await _read(request)
        if "authorization" in request.headers:
            cookie = await gate.use_key(request.scope, request.headers, body)
        else:
            cookie = await gate.use_link(request.scope, request.headers, _form(body).get("link", ""))
        log.info("an operator signed in")
        return _redirect(money.PATH, {"set-cookie": cookie})

    async def sign_out(request: Request) -> Response:
        session = await gate.session(request.headers)
        gate.check_form(request.headers, _form(await _read(request)), session)
        return _redirect(LOGIN, {"set-cookie": await gate.sign_out(session)})

    async def read_file(request: Request, name: str) -> View:
        if is_signed(request.headers):
            await gate.use_signature(request.scope, request.headers)
        else:
            await gate.session(request.headers)
        # a file has no forms, so it needs no key for them
        return await PAGES[name].read(house, request.query_params, "")

    def read(name: str) -> Handler:
        async def handler(request: Request) -> Response:
            session = await gate.session(request.headers)
            view: View = await PAGES[name].read(house, request.query_params, session.form_key)
            return _page(house, name, view, session)

        return handler

    def read_json(name: str) -> Handler:
        async def handler(request: Request) -> Response:
            return _file(msgspec.json.encode((await read_file(request, name)).data), "application/json")

        return handler

    def read_table(name: str, table: str, kind: str) -> Handler:
        async def handler(request: Request) -> Response:
            found = await (await read_file(request, name)).tables[table].complete()
            if kind == "json":
                return _file(found.json(), "application/json")
            return _file(found.csv(), "text/csv; charset=utf-8", f"{name}-{table}.csv")

        return handler

    def change(name: str) -> Handler:
        async def handler(request: Request) -> Response:
            session = await gate.session(request.headers)
            given = _form(await _read(request))
            gate.check_form(request.headers, given, session)
            view: View = await PAGES[name].act(house, given, session.form_key)
            log.info("an operator's form was done", page=name, do=given.get("do", "")[:16])
            return _page(house, name, view, session)

        return handler

    add("GET", PATH, first, FIRST)
    add("GET", LOGIN, sign_in_page, LOGIN_PAGE)
    add("POST", LOGIN, sign_in, SIGN_IN)
    add("POST", LOGOUT, sign_out, SIGN_OUT)
    for name, page in pages_of(house).items():
        path, title = PAGES[name].PATH, PAGES[name].TITLE
        add("GET", path, read(name), a_page(name, title, page))
        add("GET", f"{path}.json", read_json(name), its_json(name, title, page))
        if page.form:
            add("POST", path, change(name), a_form(name, title, page))
        for table in page.tables:
            for kind in ("csv", "json"):
                what = a_table(name, title, page, table, kind)
                add("GET", f"{path}/{table}.{kind}", read_table(name, table, kind), what)
    return router


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM:
            raise BodyTooLarge
    return bytes(body)


def _form(body: bytes) -> dict[str, str]:
    """The fields of a form as browsers send it (application/x-www-form-urlencoded). Raises InvalidInput."""
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=FIELDS))
    except (UnicodeError, ValueError):
        raise InvalidInput("a form of a page") from None


def _headers(*, forms: bool = True) -> dict[str, str]:
    return security_headers(forms=forms) | {"referrer-policy": "same-origin", "cache-control": "no-store"}


def _redirect(path: str, more: Mapping[str, str] | None = None) -> Response:
    return Response(status_code=303, headers={"location": path, "cache-control": "no-store", **(more or {})})


def _file(body: bytes, media_type: str, name: str = "") -> Response:
    named = {"content-disposition": f'attachment; filename="{name}"'} if name else {}
    return Response(body, media_type=media_type, headers=_headers(forms=False) | named)


def _packed(request: Request, answer: Response) -> Response:
    """A page compressed for whoever takes gzip. It has the key of the session's forms: to guess that from lengths
    (BREACH), another site would have to have pages asked for with the cookie, which SameSite=Strict keeps back."""
    if answer.media_type != HTML or "gzip" not in request.headers.get("accept-encoding", ""):
        return answer
    answer.body = gzip.compress(answer.body, 5, mtime=0)
    answer.headers["content-length"] = str(len(answer.body))
    answer.headers["content-encoding"] = "gzip"
    return answer


def _page(house: House, name: str, view: View, session: Session) -> Response:
    out = form(LOGOUT, session.form_key, button("Sign out", plain=True), class_="out")
    shout = (
        notice(tag("strong", "PLAY MONEY: the stamps of this office are worth nothing.")) if house.play_money else None
    )
    return _html(house, view.title, inside([shout, view.main, out]), PAGES[name].PATH)


def _html(
    house: House, title: str, main: Html, here: str, status: int = 200, scripts: tuple[str, ...] = ()
) -> Response:
    places = () if here == LOGIN else tuple((PAGES[each].PATH, PAGES[each].TITLE) for each in pages_of(house))
    body = document(
        name=house.name,
        title=title,
        main=main,
        here=here,
        styles=("operator.css",),
        scripts=scripts,
        places=places,
        note="One cookie, for the session; no third parties",
    )
    return Response(body, status, _headers(), HTML)


def _login(house: House, link: str, problem: str, status: int = 200) -> Response:
    keys = bool(house.settings().operators)
    main = login.page(link, problem, keys=keys, url=house.settings().url + LOGIN)
    return _html(house, "Sign in", main, LOGIN, status, ("operator.js",) if keys and not link else ())


def _refused(house: House, request: Request, error: PennypostError) -> Response:
    if isinstance(error, SignInNeeded) or request.url.path == LOGIN:
        asked = "" if type(error) is SignInNeeded else f"{error}. {error.remedy}"
        answer = _login(house, "", asked, error.status)
    else:
        said = notice([tag("strong", f"{error}. "), error.remedy], role="alert")
        back = tag("p", tag("a", "Back", href=request.url.path, class_="button"))
        answer = _html(house, "Not done", inside([tag("h1", "Not done"), said, back]), request.url.path, error.status)
    if error.status in (429, 503):
        answer.headers["retry-after"] = str(error.retry_after)
    return answer
