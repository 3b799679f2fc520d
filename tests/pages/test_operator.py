"""The operator's pages over HTTP: who comes in, what a form needs, what each page shows and does."""

from __future__ import annotations

import asyncio
import csv
import io
import re
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import insert, update

from pennypost.protocol.errors import LinkInvalid, NotFound
from pennypost.protocol.nip98 import http_auth
from pennypost.protocol.price import PriceList, parse_prices
from pennypost_mint.api import Keyring, pay_play_invoice
from pennypost_mint.operate.promotions import issue
from pennypost_mint.tables import mint_quotes
from pennypost_postoffice.bans import Ban, ban_on
from pennypost_postoffice.operate.prices import asked, set_on
from pennypost_postoffice.pages.operator import keysets, money, prices, quotes
from pennypost_postoffice.pages.operator.house import House as OperatorHouse
from pennypost_postoffice.pages.operator.routes import PAGES
from pennypost_postoffice.pages.operator.sign_in import (
    LINK_SECONDS,
    SESSION_SECONDS,
    begin_on,
    end_all_on,
    make_link_on,
    session_on,
    use_link_on,
)
from pennypost_postoffice.pages.operator.view import SHOWN
from pennypost_postoffice.samples import EVERY, KEPT, Sample, Sampler, samples_on
from pennypost_postoffice.tables import sign_ins
from tests.conftest import DATABASES
from tests.postoffice.house import DAY, Author, House, open_house
from tests.support.postgres import Postgres
from tests.support.stamps import MintClient

pytestmark = pytest.mark.asyncio(loop_scope="module")

OPERATOR = Author()
DEARER = "[[rule]]\nbase = 3\n"


@pytest.fixture(scope="module", params=DATABASES)
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database of each kind; "" is a SQLite file in the data folder."""
    if request.param == "sqlite":
        yield ""
        return
    cluster: Postgres = request.getfixturevalue("postgres_cluster")
    made = cluster.database()
    yield made
    cluster.drop(made)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(address: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """An office on each database; its tests leave it as it was."""
    async with open_house(tmp_path_factory.mktemp("office"), address, operators=OPERATOR.pubkey) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """On SQLite, for what does not depend on the database."""
    async with open_house(tmp_path_factory.mktemp("office"), operators=OPERATOR.pubkey) as opened:
        yield opened


class Browser:
    """Keeps the cookie, sends forms with the key of the page it saw last and the Origin that browsers send."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.url = f"http://127.0.0.1:{house.settings.port}"
        self.http = httpx.AsyncClient(timeout=60, trust_env=False, base_url=self.url)
        self.key = ""

    async def get(self, path: str, **query: str) -> httpx.Response:
        answer = await self.http.get(path, params=query)
        found = re.search(r'name="key" value="([0-9a-f]{64})"', answer.text)
        self.key = found[1] if found else self.key
        return answer

    async def send(self, path: str, origin: str | None = None, **fields: str) -> httpx.Response:
        headers = {"origin": self.url if origin is None else origin}
        return await self.http.post(path, data={"key": self.key} | fields, headers=headers)

    async def sign_in(self) -> httpx.Response:
        """By a link."""
        answer = await self.send("/operator/login", link=await self.link())
        await self.get("/operator/bans")
        return answer

    async def link(self) -> str:
        return await self.house.office.database.write(make_link_on, int(time.time()))

    async def enter(self) -> Browser:
        """With a session that is there, for tests of what comes after a sign-in: those are bounded."""
        secret = await self.house.office.database.write(use_link_on, await self.link(), int(time.time()))
        self.http.headers["cookie"] = f"pennypost-operator={secret}"
        await self.get("/operator/bans")
        return self


@asynccontextmanager
async def fresh(folder: Path, **settings: Any) -> AsyncIterator[Browser]:
    """An office of the test's own, and somebody signed in there."""
    async with open_house(folder, operators=OPERATOR.pubkey, **settings) as opened:
        browser = await Browser(opened).enter()
        yield browser
        await browser.http.aclose()


@pytest_asyncio.fixture(loop_scope="module")
async def browser(house: House) -> AsyncIterator[Browser]:
    """Signed in at an office on each database."""
    opened = await Browser(house).enter()
    yield opened
    await opened.http.aclose()


@pytest_asyncio.fixture(loop_scope="module")
async def inside(one: House) -> AsyncIterator[Browser]:
    """Signed in at the one office."""
    opened = await Browser(one).enter()
    yield opened
    await opened.http.aclose()


@pytest_asyncio.fixture(loop_scope="module")
async def stranger(one: House) -> AsyncIterator[Browser]:
    """Not signed in."""
    opened = Browser(one)
    yield opened
    await opened.http.aclose()


# --- links and sessions


async def test_a_link_is_good_once_and_for_a_while(house: House) -> None:
    database, now = house.office.database, 1_000_000
    link = await database.write(make_link_on, now)
    assert await database.read(session_on, link, now) is None, "a link is no session"
    with pytest.raises(LinkInvalid):
        await database.write(use_link_on, link, now + LINK_SECONDS)
    secret = await database.write(use_link_on, link, now + LINK_SECONDS - 1)
    with pytest.raises(LinkInvalid):
        await database.write(use_link_on, link, now + 1)
    until = now + LINK_SECONDS - 1 + SESSION_SECONDS
    found = await database.read(session_on, secret, until - 1)
    assert found is not None and (found.pubkey, found.until) == (None, until)
    assert await database.read(session_on, secret, until) is None


async def test_of_two_who_use_a_link_at_once_one_is_signed_in(house: House) -> None:
    database, now = house.office.database, int(time.time())
    link = await database.write(make_link_on, now)
    done = await asyncio.gather(*(database.write(use_link_on, link, now) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(each, str) for each in done) == 1
    assert {each.code for each in done if not isinstance(each, str)} == {"link"}  # type: ignore[union-attr]


async def test_nothing_in_the_database_signs_in(house: House) -> None:
    database, now = house.office.database, int(time.time())
    link = await database.write(make_link_on, now)
    secret = await database.write(begin_on, OPERATOR.pubkey, now)
    rows = await database.read(lambda c: [row.hash.hex() for row in c.execute(sign_ins.select())])
    assert len(rows) >= 2 and not {link, secret} & set(rows)
    assert await database.write(end_all_on) >= 2
    assert await database.read(session_on, secret, now) is None


async def test_sign_in_by_link_sets_a_strict_cookie(stranger: Browser) -> None:
    answer = await stranger.sign_in()
    assert (answer.status_code, answer.headers["location"]) == (303, "/operator/money")
    words = answer.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/operator", f"Max-Age={SESSION_SECONDS}"} < set(words)
    assert (await stranger.get("/operator/money")).status_code == 200


async def test_opening_a_link_does_not_use_it_up(stranger: Browser) -> None:
    link = await stranger.link()
    for _ in range(2):
        shown = await stranger.get("/operator/login", link=link)
        assert shown.status_code == 200 and "set-cookie" not in shown.headers
    assert (await stranger.send("/operator/login", link=link)).status_code == 303
    assert (await stranger.send("/operator/login", link=link)).status_code == 401


@pytest.mark.parametrize("path", [f"/operator/{name}" for name in PAGES])
async def test_who_is_not_signed_in_sees_the_sign_in_alone(stranger: Browser, path: str) -> None:
    shown = await stranger.get(path)
    assert shown.status_code == 401 and 'name="key"' not in shown.text and shown.headers["cache-control"] == "no-store"
    refused = await stranger.get(path + ".json")
    assert refused.status_code == 401 and "[sign-in]" in refused.json()["detail"]


async def test_sessions_end(stranger: Browser) -> None:
    await stranger.enter()
    await stranger.house.office.database.write(lambda c: c.execute(update(sign_ins).values(until=int(time.time()))))
    assert (await stranger.get("/operator/bans")).status_code == 401
    await stranger.enter()
    answer = await stranger.send("/operator/logout")
    assert answer.status_code == 303 and "Max-Age=0" in answer.headers["set-cookie"]
    assert (await stranger.get("/operator/bans")).status_code == 401, "the server forgot it, too"


@pytest.mark.parametrize(
    "all_of_them",
    ["{}; foo", "foo; {}", "a=b c; {}", 'a="; {}', "{};x={{}};é=1", "pennypost-operator-not=1;{}", "a=\\;{} ; =;;"],
)
async def test_cookies_of_others_sign_nobody_out(inside: Browser, all_of_them: str) -> None:
    ours = inside.http.headers["cookie"]
    sent = all_of_them.format(ours).encode()
    assert (await inside.http.get("/operator/bans", headers={b"cookie": sent})).status_code == 200
    for wrong in ("x" + ours, ours.replace("=", "x="), ours[:-1], "pennypost-operator", ""):
        assert (await inside.http.get("/operator/bans", headers={"cookie": wrong})).status_code == 401, wrong


async def test_on_https_the_cookie_is_secure_and_tries_are_limited(tmp_path: Path) -> None:
    async with fresh(tmp_path, public_url="https://office.example") as guest:
        answer = await guest.send("/operator/login", "https://office.example", link=await guest.link())
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Secure-pennypost-operator=") and cookie.endswith("; Secure")
        codes = [(await guest.send("/operator/login", link=secrets.token_hex(32))).status_code for _ in range(24)]
        assert set(codes[:19]) == {401} and codes[-1] == 429
        last = await guest.send("/operator/login", link="x")
        assert last.status_code == 429 and int(last.headers["retry-after"]) > 0


async def test_wrong_tries_of_others_keep_no_operator_out(tmp_path: Path) -> None:
    async with fresh(tmp_path) as guest:
        house, path = guest.house, "/operator/money.json"
        assert {(await guest.send("/operator/login", link="x")).status_code for _ in range(24)} == {401, 429}
        link = await guest.link()
        assert (await guest.send("/operator/login", link=link)).status_code == 303
        assert (await guest.send("/operator/login", link=link)).status_code == 429, "it is a wrong one now"
        header = _signed(house)
        assert (await guest.http.post("/operator/login", headers=header)).status_code == 303
        assert (await guest.http.post("/operator/login", headers=header)).status_code == 429
        async with httpx.AsyncClient(timeout=60, trust_env=False, base_url=house.url) as http:
            header = _signed(house, path=path, method="GET")
            assert (await http.get(path, headers=header)).status_code == 200
            assert (await http.get(path, headers=header)).status_code == 429


async def test_right_ones_cost_no_tries(tmp_path: Path) -> None:
    async with fresh(tmp_path) as guest:
        for _ in range(24):
            assert (await guest.send("/operator/login", link=await guest.link())).status_code == 303
        assert (await guest.send("/operator/login", link="x")).status_code == 401


@pytest.mark.parametrize("link", ["", "x", "0" * 63, "0" * 65, "A" * 64, "١" * 64, "0" * 64])
async def test_what_is_no_link(stranger: Browser, link: str) -> None:
    answer = await stranger.send("/operator/login", link=link)
    assert answer.status_code in (401, 429) and "set-cookie" not in answer.headers


# --- by an operator's key


def _signed(
    house: House, author: Author = OPERATOR, path: str = "/operator/login", method: str = "POST", ago: int = 0
) -> dict[str, str]:
    now, aux = int(time.time()) - ago, secrets.token_bytes(32)
    return {
        "authorization": http_auth(author.secret, url=house.url + path, method=method, body=b"", now=now, aux=aux),
    }


async def test_sign_in_by_a_key(stranger: Browser) -> None:
    house = stranger.house
    header = _signed(house)
    answer = await stranger.http.post("/operator/login", headers=header)
    assert answer.status_code == 303 and (await stranger.get("/operator/money")).status_code == 200
    assert (await stranger.http.post("/operator/login", headers=header)).status_code == 401, "once"
    for wrong in (_signed(house, Author()), _signed(house, path="/"), {"authorization": "Nostr x"}):
        assert (await stranger.http.post("/operator/login", headers=wrong)).status_code == 401
    # whoever is no operator any more is signed out
    before = house.service.settings
    house.service.settings = before.model_copy(update={"operators": Author().pubkey})
    assert (await stranger.get("/operator/money")).status_code == 401
    house.service.settings = before


FILES = (
    "/operator/money.json",
    "/operator/health.json?hours=3",
    "/operator/money/treasury.json",
    "/operator/bans/bans.csv",
)


@pytest.mark.parametrize("path", FILES)
async def test_a_file_is_read_by_a_signed_request_once(house: House, path: str) -> None:
    async with httpx.AsyncClient(timeout=60, trust_env=False, base_url=house.url) as http:
        header = _signed(house, path=path, method="GET")
        answer = await http.get(path, headers=header)
        assert answer.status_code == 200 and "set-cookie" not in answer.headers
        assert answer.headers["cache-control"] == "no-store"
        again = await http.get(path, headers=header)
        assert again.status_code == 401 and "[http-auth]" in again.json()["detail"], "once"
        assert (await http.get(path)).status_code == 401, "and it signed nobody in"


async def test_what_a_signature_does_not_open(tmp_path: Path) -> None:
    path = "/operator/money.json"
    async with (
        open_house(tmp_path, operators=OPERATOR.pubkey) as opened,
        httpx.AsyncClient(timeout=60, trust_env=False) as http,
    ):
        wrong = [
            (path, _signed(opened, Author(), path, "GET")),
            (path, _signed(opened, path=path, method="POST")),
            (path, _signed(opened, path="/operator/quotes.json", method="GET")),
            (path, _signed(opened, path=path, method="GET", ago=90)),
            (path + "?hours=1", _signed(opened, path=path, method="GET")),
            (path, _signed(opened, path=path + "?hours=1", method="GET")),
            (path, {"authorization": "Nostr x"}),
            (path, {"authorization": "Basic eDp5"}),
            # pages and forms are for sessions
            ("/operator/money", _signed(opened, path="/operator/money", method="GET")),
        ]
        for asked_for, header in wrong:
            answer = await http.get(opened.url + asked_for, headers=header)
            assert answer.status_code == 401 and "set-cookie" not in answer.headers, (asked_for, header)
        form = _signed(opened, path="/operator/keysets") | {"origin": opened.url}
        assert (await http.post(opened.url + "/operator/keysets", headers=form)).status_code == 401
        assert opened.office.keyring.sunset is None
        before = opened.service.settings
        opened.service.settings = before.model_copy(update={"operators": ""})
        assert (await http.get(opened.url + path, headers=_signed(opened, path=path, method="GET"))).status_code == 404
        opened.service.settings = before
        # wrong ones are bounded as sign-ins are; right ones are not
        for number in range(24):
            each = f"{path}?hours={number}"
            good = await http.get(opened.url + each, headers=_signed(opened, path=each, method="GET"))
            assert good.status_code == 200
        codes = [(await http.get(opened.url + path, headers=wrong[6][1])).status_code for _ in range(24)]
        assert codes[0] == 401 and codes[-1] == 429
        assert (await http.get(opened.url + path, headers=wrong[6][1])).headers["retry-after"]


# --- forms


async def test_a_form_of_another_site_is_refused(one: House, inside: Browser) -> None:
    browser = inside
    before = one.office.policy.prices
    for origin in ("https://evil.example", "null", ""):
        refused = await browser.send("/operator/prices", origin, do="set", toml=DEARER)
        assert refused.status_code == 403, origin
    without = await browser.http.post("/operator/prices", data={"key": browser.key, "do": "set", "toml": DEARER})
    assert without.status_code == 403
    for key in ("", "0" * 64, browser.key[:-1]):
        assert (await browser.send("/operator/prices", do="set", toml=DEARER, key=key)).status_code == 403
    other = await Browser(one).enter()
    assert other.key != browser.key
    assert (await browser.send("/operator/prices", do="set", toml=DEARER, key=other.key)).status_code == 403
    assert one.office.policy.prices is before
    await other.http.aclose()


async def test_other_sites_sign_nobody_in_or_out(one: House, inside: Browser) -> None:
    """A sign-in that another site sends would make the operator work in a stranger's session; it uses nothing up."""
    guest, evil = Browser(one), "https://evil.example"
    link, header = await guest.link(), _signed(one)
    assert (await guest.send("/operator/login", evil, link=link)).status_code == 403
    assert (await guest.http.post("/operator/login", data={"link": link})).status_code == 403, "no browser of today"
    assert (await guest.http.post("/operator/login", headers=header | {"origin": evil})).status_code == 403
    assert not guest.http.cookies
    assert (await guest.send("/operator/login", link=link)).status_code == 303
    for given in ({"origin": evil}, {"key": ""}, {"key": "0" * 64}):
        assert (await inside.send("/operator/logout", **given)).status_code == 403, given
    assert (await inside.get("/operator/bans")).status_code == 200
    await guest.http.aclose()


async def test_forms_are_bounded(one: House, inside: Browser) -> None:
    browser = inside
    assert (await browser.send("/operator/prices", toml="x" * 70_000)).status_code == 413
    assert (await browser.send("/operator/bans", **{f"f{number}": "" for number in range(40)})).status_code == 400
    headers = {"origin": one.url}
    assert (await browser.http.post("/operator/bans", content=b"key=\xff", headers=headers)).status_code == 400
    assert (await browser.send("/operator/health")).status_code == 405, "it has no form"


# --- where it is served


async def test_a_proxy_without_tls_finds_nothing(inside: Browser) -> None:
    for header in ({"host": "office.example"}, {"x-forwarded-for": "192.0.2.7"}, {"forwarded": "for=192.0.2.7"}):
        for path in ("/operator", "/operator/login", "/operator/bans", "/operator/bans.json"):
            assert (await inside.http.get(path, headers=header)).status_code == 404, (header, path)
    assert (await inside.get("/operator/bans")).status_code == 200


async def test_pages_are_compressed_for_whoever_takes_it(inside: Browser) -> None:
    for path in ("/operator/health", "/operator/login", "/operator/prices"):
        plain = await inside.http.get(path, headers={"accept-encoding": "identity"})
        packed = await inside.http.get(path, headers={"accept-encoding": "gzip"})
        assert "content-encoding" not in plain.headers and packed.headers["content-encoding"] == "gzip"
        assert int(packed.headers["content-length"]) < len(plain.content) * 2 / 3
        assert packed.text.startswith("<!doctype html>") and packed.text.endswith("</html>\n")
    refused = await inside.send("/operator/bans", subject="kind", value="x")
    assert refused.status_code == 400 and refused.headers["content-encoding"] == "gzip"
    file = await inside.get("/operator/bans/bans.csv")
    assert "content-encoding" not in file.headers and file.text.startswith("subject,")


async def test_switched_off_there_is_nothing(one: House, inside: Browser) -> None:
    before = one.service.settings
    one.service.settings = before.model_copy(update={"operator_pages": "off"})
    for path in ("/operator", "/operator/login", "/operator/money", "/operator/money.json"):
        assert (await inside.get(path)).status_code == 404
    assert (await inside.send("/operator/login", link="0" * 64)).status_code == 404
    one.service.settings = before


# --- pages


@pytest.mark.parametrize("name", PAGES)
async def test_each_page_has_its_json_and_its_tables(browser: Browser, name: str) -> None:
    shown = await browser.get(f"/operator/{name}")
    assert shown.status_code == 200 and shown.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in shown.headers["content-security-policy"]
    assert shown.headers["referrer-policy"] == "same-origin", "under no-referrer a form's Origin would be null"
    assert " style=" not in shown.text and "<script>" not in shown.text
    data = (await browser.get(f"/operator/{name}.json")).json()
    assert data
    files = set(re.findall(r'href="(/operator/[a-z]+/[a-z]+\.(?:csv|json))', shown.text))
    assert files

    async def rows(path: str) -> int:
        return len((await browser.get(path.replace(".csv", ".json"))).json())

    for path in files:
        before = await rows(path) if path.endswith(".csv") else 0
        answer = await browser.get(path)
        assert answer.status_code == 200, path
        if path.endswith(".csv"):
            # the office counts on meanwhile
            assert len(list(csv.DictReader(io.StringIO(answer.text)))) in (before, await rows(path)), path
    assert (await browser.get(f"/operator/{name}/nothing.csv")).status_code == 404
    assert (await browser.get(f"/operator/{name}.xml")).status_code == 404


async def test_the_balance_sheet_and_a_purchase_that_was_paid_and_not_credited(tmp_path: Path) -> None:
    async with fresh(tmp_path) as browser:
        opened, http = browser.house, browser.http
        assert opened.service._mint is not None
        # invoices wait, and nobody but the page asks the node
        opened.service._mint.lightning._settle_after = None  # type: ignore[attr-defined]
        await opened.service._mint.till.stop()
        quote = (await http.post("/v1/mint/quote/bolt11", json={"amount": 5, "unit": "sat"})).json()
        (row,) = (await browser.get("/operator/quotes.json")).json()["quotes"]
        for wanted in (row["payment_hash"], quote["request"], quote["request"].upper()):
            (found,) = (await browser.get("/operator/quotes.json", find=wanted)).json()["quotes"]
            assert found["payment_hash"] == row["payment_hash"]
        assert (await browser.get("/operator/quotes.json", find="ab" * 32)).json()["quotes"] == []
        assert (await browser.send("/operator/quotes", find=row["payment_hash"])).status_code == 200
        assert (await browser.get("/operator/quotes.json")).json()["quotes"][0]["state"] == "unpaid"
        await pay_play_invoice(opened.office.database, quote["request"])
        assert (await browser.send("/operator/quotes", find=row["payment_hash"])).status_code == 200
        (found,) = (await browser.get("/operator/quotes.json", state="paid")).json()["quotes"]
        assert (found["amount"], found["amount_paid"], found["amount_issued"]) == (5, 5, 0)
        shown = (await browser.get("/operator/quotes", state="paid")).text
        assert quote["quote"] not in shown and "id" not in found, "an id is money"
        books = (await browser.get("/operator/money.json")).json()["books"]
        assert (books["settled"], books["sold"], books["unclaimed"], books["balanced"]) == (5, 0, 5, True)


async def test_the_balance_sheet_after_real_purchases(tmp_path: Path) -> None:
    """One process that is mint and office: each figure of the page follows what people did."""
    async with fresh(tmp_path) as browser, browser.house.relay() as relay, MintClient(browser.url) as wallet:
        opened, author, began = browser.house, Author(), int(time.time())
        bought = await wallet.buy(12)
        for stamp in bought[:4]:
            assert (await relay.post(author.sign(), stamp.token)).accepted
        for _ in range(2):
            refused = await relay.post(author.sign(), bought[0].token)
            assert "[stamp-spent]" in refused.message
        # paid, and its stamps not taken yet; then one that nobody pays
        paid = await wallet.post("/v1/mint/quote/bolt11", {"amount": 5, "unit": "sat"})
        await wallet._paid(str(paid["quote"]))
        opened.service._mint.lightning._settle_after = None  # type: ignore[union-attr]
        await wallet.post("/v1/mint/quote/bolt11", {"amount": 1_000, "unit": "sat"})
        await issue(opened.office.database, opened.settings, 3, "gift")
        found = (await browser.get("/operator/money.json")).json()
        names = ("settled", "sold", "unclaimed", "promotional", "used", "outstanding", "difference", "balanced")
        assert [found["books"][name] for name in names] == [17, 12, 5, 3, 4, 11, 0, True]
        (keyset,) = found["books"]["keysets"]
        assert (keyset["signed"], keyset["spent"], keyset["outstanding"]) == (15, 4, 11)
        days = (await browser.get("/operator/money/days.json")).json()
        # a second one where midnight has passed meanwhile
        assert len(days) in (1, 1 + int(time.time()) // DAY - began // DAY)
        sums = [sum(day[name] for day in days) for name in ("settled", "sold", "promotional", "spent")]
        assert sums == [17, 12, 3, 4]
        assert found["treasury"] == {"sat": 0, "mints": []} and found["play_money"] is True
        shown = (await browser.get("/operator/money")).text
        for figure in ("17 sat", "12 sat", "3 sat", "4 sat", "11 sat"):
            assert f'<dd class="figure">{figure}</dd>' in shown, figure


async def test_files_are_of_the_purchases_that_the_page_shows_and_of_all_of_them(tmp_path: Path) -> None:
    count = 1_107
    rows = [
        {
            "id": f"{number:032x}",
            "unit": "sat",
            "amount": 2,
            "request": f"lnbc{number}",
            "payment_hash": number.to_bytes(32),
            "state": "LAPSED" if number % 2 else "ISSUED",
            "amount_paid": 0,
            "amount_issued": 0,
            "created_at": 1_000_000 + number // 3,
            "expiry": 2_000_000,
            "updated_at": 1_000_000,
        }
        for number in range(count)
    ]
    hashes = [row["payment_hash"].hex() for row in reversed(rows)]  # type: ignore[attr-defined]
    async with fresh(tmp_path) as browser:
        await browser.house.office.database.write(lambda c: c.execute(insert(mint_quotes), rows))

        async def file_of(**query: str) -> list[str]:
            """What the page's links lead to."""
            shown = (await browser.get("/operator/quotes", **query)).text
            links = [unescape(each) for each in re.findall(r'href="(/operator/quotes/quotes\.[^"]+)"', shown)]
            assert len(links) == 2
            as_csv, as_json = [await browser.http.get(each) for each in links]
            told = [row["payment_hash"] for row in as_json.json()]
            assert [row["payment_hash"] for row in csv.DictReader(io.StringIO(as_csv.text))] == told
            return told

        assert await file_of() == [], "the open ones"
        assert await file_of(state="all") == hashes
        assert await file_of(state="lapsed") == hashes[1::2]
        assert await file_of(state="all", before=hashes[99]) == hashes[100:]
        assert await file_of(state="all", find=hashes[7]) == [hashes[7]]
        assert await file_of(find='&state=all"<') == []
        assert len((await browser.get("/operator/quotes.json", state="all")).json()["quotes"]) == quotes.PAGE


async def test_a_file_of_purchases_is_bounded_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotes, "FILE", 3)
    async with fresh(tmp_path) as browser:
        for _ in range(5):
            await browser.http.post("/v1/mint/quote/bolt11", json={"amount": 5, "unit": "sat"})
        path = "/operator/quotes/quotes.json"
        first = (await browser.get(path, state="all")).json()
        assert len(first) == 3
        rest = (await browser.get(path, state="all", before=first[-1]["payment_hash"])).json()
        assert len({row["payment_hash"] for row in first + rest}) == 5 and len(rest) == 2


async def test_an_office_apart_from_its_mints_shows_its_treasury_alone(one: House) -> None:
    database, no_keys = one.office.database, Keyring.without_keysets(b"\1" * 32)
    apart = OperatorHouse(database, lambda: one.settings, no_keys, None, one.office)
    shown = await money.read(apart, {}, "")
    assert shown.data["books"] is None and list(shown.tables) == ["treasury"]
    with pytest.raises(NotFound):
        await keysets.act(apart, {"do": "sunset"}, "")
    with pytest.raises(NotFound):
        await quotes.act(apart, {"find": "ab" * 32}, "")
    alone = OperatorHouse(database, lambda: one.settings, one.office.keyring, None, None)
    assert (await money.read(alone, {}, "")).data["lightning"] == {"sat": None}
    with pytest.raises(NotFound):
        await prices.act(alone, {"do": "unset"}, "")


# --- prices


async def test_a_price_is_previewed_and_set_for_the_next_event(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(DEARER)
    async with fresh(tmp_path, price_file=file) as browser, browser.house.relay() as relay:
        opened, author = browser.house, Author()
        refused = await relay.post(author.sign(), opened.purse.token())
        assert "[stamp-too-little]" in refused.message
        shown = await browser.send("/operator/prices", do="preview", toml="[[rule]]\r\nbase = 1\r\n")
        assert shown.status_code == 200 and 'value="set"' in shown.text
        assert (await browser.get("/operator/prices.json")).json()["set"] is False, "a preview changes nothing"
        set_now = await browser.send("/operator/prices", do="set", toml="[[rule]]\r\nbase = 1\r\n")
        assert set_now.status_code == 200
        await opened.pay(relay, [author.sign()])
        found = (await browser.get("/operator/prices.json")).json()
        assert (found["set"], found["rules"][0]["base"]) == (True, 1)
        assert len((await browser.get("/operator/prices/edits.json")).json()) == 1
        information = await browser.http.get("/", headers={"accept": "application/nostr+json"})
        assert information.json()["fees"]["publication"][0]["amount"] == 1
        # a new price file waits behind what was set
        file.write_text("[[rule]]\nbase = 7\n")
        opened.service.reload()
        assert opened.office.policy.prices.rules[0].base == 1
        await browser.send("/operator/prices", do="unset")
        assert opened.office.policy.prices.rules[0].base == 7


@pytest.mark.parametrize(
    "toml", ["", "base = 1", "[[rule]]\nbase = -1", "[[rule]", "x" * 20_000, "[[rule]]\nttl_max = 0"]
)
async def test_a_list_that_cannot_be_is_not_set(one: House, inside: Browser, toml: str) -> None:
    browser = inside
    before = one.office.policy.prices
    shown = await browser.send("/operator/prices", do="set", toml=toml)
    assert shown.status_code == 200 and 'role="alert"' in shown.text
    assert one.office.policy.prices is before
    assert (await browser.get("/operator/prices.json")).json()["set"] is False


async def test_every_process_asks_what_was_set(house: House, tmp_path: Path) -> None:
    database, now = house.office.database, int(time.time())
    await database.write(set_on, DEARER, now)
    (tmp_path / "mint.seed").write_bytes((house.settings.data_dir / "mint.seed").read_bytes())
    address = house.settings.database_url or f"sqlite:///{house.settings.data_dir / 'pennypost.sqlite'}"
    async with open_house(tmp_path, address) as other:
        assert other.office.policy.prices == parse_prices(DEARER)
        cheaper = "[[rule]]\nbase = 2\n"
        await database.write(set_on, cheaper, now)
        async with asyncio.timeout(20):
            while any(each.office.policy.prices != parse_prices(cheaper) for each in (house, other)):
                await asyncio.sleep(0.02)
    assert await asked(database, None) == parse_prices(cheaper)
    await database.write(set_on, "", now)
    await house.office.marks_changed()
    assert house.office.policy.prices == PriceList()


# --- bans


async def test_bans_are_added_listed_and_taken_away(browser: Browser) -> None:
    author, office = Author(), browser.house.office
    async with browser.house.relay() as relay:
        reason = "<b>spam</b> & =more"
        shown = await browser.send("/operator/bans", subject="pubkey", value=author.pubkey, reason=reason)
        assert shown.status_code == 200 and "<b>spam" not in shown.text and "&lt;b&gt;spam" in shown.text
        assert "[banned]" in (await relay.post(author.sign(), browser.house.purse.token())).message
        (row,) = (await browser.get("/operator/bans/bans.json")).json()
        assert (row["subject"], row["value"], row["reason"]) == ("pubkey", author.pubkey, reason)
        await browser.send("/operator/bans", do="remove", subject="pubkey", value=author.pubkey)
        await browser.house.pay(relay, [author.sign()])
    assert (await browser.get("/operator/bans.json")).json() == {"bans": []}
    assert not office.policy.bans._pubkeys


async def test_a_ban_past_those_that_are_shown_is_taken_away_by_its_value(tmp_path: Path) -> None:
    banned = [Ban("event", secrets.token_hex(32), "", 1_000 + number) for number in range(SHOWN + 1)]
    async with fresh(tmp_path) as browser:
        assert 'id="lifted"' not in (await browser.get("/operator/bans")).text, "there is none"
        await browser.house.office.database.write(lambda c: [ban_on(c, each) for each in banned])
        shown = (await browser.get("/operator/bans")).text
        assert banned[-1].value in shown and banned[0].value not in shown
        (lift,) = [each for each in re.findall(r"<form.*?</form>", shown, re.S) if 'id="lifted"' in each]
        assert 'name="do" value="remove"' in lift and 'name="subject"' in lift and 'name="value"' in lift
        sent = await browser.send("/operator/bans", do="remove", subject="event", value=banned[0].value)
        assert sent.status_code == 200
        left = (await browser.get("/operator/bans.json")).json()["bans"]
        assert [each["value"] for each in left] == [each.value for each in banned[1:]]


@pytest.mark.parametrize(
    "given",
    [
        {"subject": "pubkey", "value": "x"},
        {"subject": "event", "value": "0" * 63},
        {"subject": "kind", "value": "65536"},
        {"subject": "kind", "value": "1-2"},
        {"subject": "address", "value": "192.0.2.1"},
        {"subject": "kind", "value": "1", "reason": "x" * 300},
    ],
)
async def test_what_cannot_be_banned(inside: Browser, given: dict[str, str]) -> None:
    assert (await inside.send("/operator/bans", **given)).status_code == 400
    assert (await inside.get("/operator/bans.json")).json() == {"bans": []}


# --- keysets


async def test_a_rotation_is_previewed_and_is_the_one_that_was_shown(browser: Browser) -> None:
    before = (await browser.get("/operator/keysets.json")).json()["keysets"]
    shown = await browser.send("/operator/keysets", do="preview", final_expiry="2031-12-31")
    (coming,) = re.findall(r'name="id" value="([0-9a-f]+)"', shown.text)
    assert len((await browser.get("/operator/keysets.json")).json()["keysets"]) == len(before)
    # with another date it is another keyset: it is shown again and not taken
    stale = await browser.send("/operator/keysets", do="rotate", id=coming, final_expiry="2032-12-31")
    assert coming not in stale.text and 'name="id"' in stale.text
    await browser.send("/operator/keysets", do="rotate", id=coming, final_expiry="2031-12-31")
    active = browser.house.office.keyring.active()
    assert (active.id, active.final_expiry) == (coming, 1_956_527_999)
    again = await browser.send("/operator/keysets", do="rotate", id=coming, final_expiry="2031-12-31")
    assert 'name="id"' in again.text and browser.house.office.keyring.active().id == coming, "sent twice, done once"
    assert (await browser.send("/operator/keysets", final_expiry="2001-01-01")).status_code == 400
    assert (await browser.send("/operator/keysets", final_expiry="soon")).status_code == 400


async def test_sales_end_and_begin_again(browser: Browser) -> None:
    order = {"amount": 1, "unit": "sat"}
    shown = await browser.send("/operator/keysets", do="preview-sunset")
    assert 'value="sunset"' in shown.text
    found = (await browser.get("/operator/money.json")).json()["books"]
    assert f"{found['outstanding']:,} sat" in shown.text and f"{found['unclaimed']:,} sat" in shown.text
    assert (await browser.get("/operator/keysets.json")).json()["selling"] is True, "a preview changes nothing"
    assert 'value="resume"' not in (await browser.send("/operator/keysets", do="preview-resume")).text
    await browser.send("/operator/keysets", do="sunset")
    assert (await browser.http.post("/v1/mint/quote/bolt11", json=order)).json()["code"] == 20003
    assert (await browser.http.get("/v1/info")).json()["nuts"]["4"]["disabled"] is True
    assert (await browser.get("/operator/keysets.json")).json()["selling"] is False
    assert 'value="sunset"' not in (await browser.send("/operator/keysets", do="preview-sunset")).text
    again = await browser.send("/operator/keysets", do="preview-resume")
    assert 'value="resume"' in again.text and browser.house.office.keyring.active().id in again.text
    assert (await browser.get("/operator/keysets.json")).json()["selling"] is False, "a preview changes nothing"
    await browser.send("/operator/keysets", do="resume")
    assert (await browser.http.post("/v1/mint/quote/bolt11", json=order)).status_code == 200


# --- health


async def test_a_sample_is_what_happened_since_the_last_one(house: House) -> None:
    database, metrics = house.office.database, house.service.metrics
    sampler = Sampler(database, metrics, lightning=True)
    # of hours that the office's own samples, of now, neither reach nor delete
    at = int(time.time()) // EVERY * EVERY - KEPT + 3_600
    await sampler.take(at)
    author = Author()
    async with house.relay() as relay:
        await house.pay(relay, [author.sign() for _ in range(3)])
        await relay.post(author.sign())
        await sampler.take(at + EVERY + 7)
    first, last = await _taken(house, sampler)
    assert first.at == at
    assert (last.at, last.stored, last.refused, last.sat, last.answers) == (at + EVERY, 3, 1, 3, 4)
    assert last.connections == 1 and last.bytes > 0 and 0 < last.answer_us <= 4 * 20e6 and last.slow_us > 0
    assert last.by_code == {"stamp-required": 1} and last.kept_until is not None
    await sampler.take(at + 2 * EVERY + KEPT)
    assert [each.at for each in await _taken(house, sampler)] == [at + 2 * EVERY + KEPT]


async def _taken(house: House, sampler: Sampler) -> list[Sample]:
    """The office takes its own, too."""
    found = await house.office.database.read(samples_on, 0)
    return [each for each in found if each.process == sampler._process]


async def test_plots_go_on_over_restarts_and_add_processes_up(database_url: str, tmp_path: Path) -> None:
    """Samples are rows of the database: of every process of the office, also of one that ended, for two days."""
    # a while ago, so that the offices' own samples stand elsewhere in the plot
    at = int(time.time()) // EVERY * EVERY - 600
    found, files, page = {}, {}, ""
    for turn in range(2):
        async with open_house(tmp_path, database_url, operators=OPERATOR.pubkey) as opened, opened.relay() as relay:
            await opened.pay(relay, [Author().sign(expires_in=3_600 if turn else 20 * 86_400)])
            await relay.post(Author().sign())
            if turn:
                assert not (await relay.post(Author().sign(), "cashuA")).accepted
            # both at one stroke of the clock, as if they had run beside each other
            await Sampler(opened.office.database, opened.service.metrics, lightning=True).take(at)
            browser = await Browser(opened).enter()
            found = (await browser.get("/operator/health.json", hours="3")).json()
            page = (await browser.get("/operator/health")).text
            for name in ("reasons.json", "reasons.csv", "points.csv"):
                files[name] = await browser.get(f"/operator/health/{name}", hours="3")
            await browser.http.aclose()
    told = next(each for each in found["points"] if each["at"] >= at)
    reasons = {"stamp-required": 2 / EVERY, "stamp-malformed": 1 / EVERY}
    assert (told["stored"] * EVERY, told["refused"] * EVERY, told["reasons"]) == (2, 3, reasons)
    assert told["kept"] == pytest.approx(20 * 86_400 + 600, abs=3 * EVERY)
    rows = [row for row in csv.DictReader(io.StringIO(files["reasons.csv"].text)) if int(row["at"]) == told["at"]]
    assert {row["code"]: float(row["refused"]) for row in rows} == reasons
    rows = [row for row in files["reasons.json"].json() if row["at"] == told["at"]]
    assert {row["code"]: row["refused"] for row in rows} == reasons
    points = {int(row["at"]): row for row in csv.DictReader(io.StringIO(files["points.csv"].text))}
    assert float(points[told["at"]]["kept"]) == told["kept"]
    assert 'class="key line0">stamp-required' in page and 'class="key line1">stamp-malformed' in page


async def test_health_shows_the_horizon_and_the_refusals(browser: Browser) -> None:
    house, author = browser.house, Author()
    now = int(time.time())
    async with house.relay() as relay:
        await house.pay(relay, [author.sign(expires_in=3_600), author.sign(expires_in=86_400)])
        signed = int(time.time())
        await relay.post(author.sign())
    await house.office.tallies.write()
    found = (await browser.get("/operator/health.json", hours="3")).json()
    assert now <= found["kept_until"]["first"] - 3_600 <= signed
    assert found["kept_until"]["last"] >= now + 86_400
    assert found["hours"] == 3 and len(found["points"]) == 120
    refused = found["refused"]
    assert refused["week"]["stamp-required"] >= 1
    # everything happened today, unless midnight has passed since the office was opened
    assert refused["today"] == refused["week"] or len(found["days"]) > 1
    assert (await browser.get("/operator/health.json", hours="9999")).json()["hours"] == 24


# --- markup
