"""The operator's pages over HTTP: who comes in, what a form needs, what each page shows and does."""

from __future__ import annotations

import asyncio
import csv
import io
import re
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import update

from pennypost.protocol.errors import LinkInvalid
from pennypost.protocol.nip98 import http_auth
from pennypost.protocol.price import parse_prices
from pennypost_mint.api import pay_play_invoice
from pennypost_mint.runtime.settings import Settings
from pennypost_postoffice.operate.prices import asked, set_on, toml_of
from pennypost_postoffice.pages.markup import tag
from pennypost_postoffice.pages.operator.gate import is_served
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
from pennypost_postoffice.pages.operator.view import Table
from pennypost_postoffice.samples import EVERY, Point, Sample, Sampler, quantile, samples_on, series
from pennypost_postoffice.tables import sign_ins
from tests.postoffice.house import Author, House, open_house
from tests.support.postgres import Postgres

OPERATOR = Author()
DEARER = "[[rule]]\nbase = 3\n"


@pytest.fixture(params=("sqlite", "postgresql"))
def address(request: pytest.FixtureRequest) -> Any:
    """An empty database of each kind; "" is a SQLite file in the data folder."""
    if request.param == "sqlite":
        yield ""
        return
    cluster: Postgres = request.getfixturevalue("postgres_cluster")
    made = cluster.database()
    yield made
    cluster.drop(made)


@pytest_asyncio.fixture
async def house(address: str, tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, address, operators=OPERATOR.pubkey) as opened:
        yield opened


@pytest_asyncio.fixture
async def one(tmp_path: Path) -> AsyncIterator[House]:
    """On SQLite, for what does not depend on the database."""
    async with open_house(tmp_path, operators=OPERATOR.pubkey) as opened:
        yield opened


class Browser:
    """Keeps the cookie, sends forms with the key of the page it saw last and the Origin that browsers send."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.http = httpx.AsyncClient(trust_env=False, base_url=house.url)
        self.key = ""

    async def get(self, path: str, **query: str) -> httpx.Response:
        answer = await self.http.get(path, params=query)
        found = re.search(r'name="key" value="([0-9a-f]{64})"', answer.text)
        self.key = found[1] if found else self.key
        return answer

    async def send(self, path: str, origin: str | None = None, **fields: str) -> httpx.Response:
        headers = {"origin": self.house.url if origin is None else origin}
        return await self.http.post(path, data={"key": self.key} | fields, headers=headers)

    async def sign_in(self) -> httpx.Response:
        link = await self.house.office.database.write(make_link_on, int(time.time()))
        answer = await self.send("/operator/login", link=link)
        await self.get("/operator/bans")
        return answer


@pytest_asyncio.fixture
async def browser(house: House) -> AsyncIterator[Browser]:
    opened = Browser(house)
    await opened.sign_in()
    yield opened
    await opened.http.aclose()


@pytest_asyncio.fixture
async def stranger(one: House) -> AsyncIterator[Browser]:
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
    secret = await database.write(begin_on, OPERATOR.pubkey, secrets.token_hex(32), now)
    rows = await database.read(lambda c: [row.hash.hex() for row in c.execute(sign_ins.select())])
    assert len(rows) == 3 and not {link, secret} & set(rows)
    assert await database.write(end_all_on) == 2
    assert await database.read(session_on, secret, now) is None


async def test_sign_in_by_link_sets_a_strict_cookie(stranger: Browser) -> None:
    answer = await stranger.sign_in()
    assert (answer.status_code, answer.headers["location"]) == (303, "/operator/money")
    words = answer.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/operator", f"Max-Age={SESSION_SECONDS}"} < set(words)
    assert (await stranger.get("/operator/money")).status_code == 200


async def test_on_https_the_cookie_is_secure(tmp_path: Path) -> None:
    async with open_house(tmp_path, public_url="https://office.example") as opened:
        guest = Browser(opened)
        link = await opened.office.database.write(make_link_on, int(time.time()))
        answer = await guest.send("/operator/login", "https://office.example", link=link)
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Secure-pennypost-operator=") and cookie.endswith("; Secure")
        await guest.http.aclose()


async def test_opening_a_link_does_not_use_it_up(stranger: Browser) -> None:
    link = await stranger.house.office.database.write(make_link_on, int(time.time()))
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
    await stranger.sign_in()
    await stranger.house.office.database.write(lambda c: c.execute(update(sign_ins).values(until=int(time.time()))))
    assert (await stranger.get("/operator/money")).status_code == 401
    await stranger.sign_in()
    kept = dict(stranger.http.cookies)
    answer = await stranger.send("/operator/logout")
    assert answer.status_code == 303 and "Max-Age=0" in answer.headers["set-cookie"]
    assert (await stranger.http.get("/operator/money", cookies=kept)).status_code == 401, "the server forgot it, too"


async def test_tries_to_sign_in_are_limited(stranger: Browser) -> None:
    codes = [(await stranger.send("/operator/login", link=secrets.token_hex(32))).status_code for _ in range(25)]
    assert set(codes[:20]) == {401} and codes[-1] == 429
    last = await stranger.send("/operator/login", link="x")
    assert int(last.headers["retry-after"]) > 0


@pytest.mark.parametrize("link", ["", "x", "0" * 63, "0" * 65, "A" * 64, "١" * 64, "0" * 64])
async def test_what_is_no_link(stranger: Browser, link: str) -> None:
    assert (await stranger.send("/operator/login", link=link)).status_code == 401


# --- by an operator's key


def _signed(house: House, author: Author = OPERATOR, path: str = "/operator/login") -> dict[str, str]:
    now, aux = int(time.time()), secrets.token_bytes(32)
    return {
        "authorization": http_auth(author.secret, url=house.url + path, method="POST", body=b"", now=now, aux=aux),
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
    house.service.settings = house.service.settings.model_copy(update={"operators": Author().pubkey})
    assert (await stranger.get("/operator/money")).status_code == 401


async def test_a_signed_request_signs_in_once_at_all_processes(house: House) -> None:
    database, event = house.office.database, secrets.token_hex(32)
    tries = (database.write(begin_on, OPERATOR.pubkey, event, 1_000) for _ in range(6))
    done = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(each, str) for each in done) == 1


# --- forms


async def test_a_form_of_another_site_is_refused(one: House) -> None:
    browser = Browser(one)
    await browser.sign_in()
    before = one.office.policy.prices
    for origin in ("https://evil.example", "null", ""):
        refused = await browser.send("/operator/prices", origin, do="set", toml=DEARER)
        assert refused.status_code == 403, origin
    without = await browser.http.post("/operator/prices", data={"key": browser.key, "do": "set", "toml": DEARER})
    assert without.status_code == 403
    for key in ("", "0" * 64, browser.key[:-1]):
        assert (await browser.send("/operator/prices", do="set", toml=DEARER, key=key)).status_code == 403
    other = Browser(one)
    await other.sign_in()
    assert other.key != browser.key
    assert (await browser.send("/operator/prices", do="set", toml=DEARER, key=other.key)).status_code == 403
    assert one.office.policy.prices is before
    await browser.http.aclose()
    await other.http.aclose()


async def test_forms_are_bounded(one: House) -> None:
    browser = Browser(one)
    await browser.sign_in()
    assert (await browser.send("/operator/prices", toml="x" * 70_000)).status_code == 413
    assert (await browser.send("/operator/bans", **{f"f{number}": "" for number in range(40)})).status_code == 400
    headers = {"origin": one.url}
    assert (await browser.http.post("/operator/bans", content=b"key=\xff", headers=headers)).status_code == 400
    assert (await browser.send("/operator/health")).status_code == 404, "it has no form"
    await browser.http.aclose()


# --- where it is served


SERVED: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"host": "::1"}, True),
    ({"host": "localhost"}, True),
    ({"host": "0.0.0.0"}, False),
    ({"host": "0.0.0.0", "public_url": "http://127.0.0.1:3338"}, False),
    ({"public_url": "http://office.example"}, False),
    ({"public_url": "http://192.0.2.7"}, False),
    ({"host": "0.0.0.0", "public_url": "https://office.example"}, True),
    ({"public_url": "https://office.example", "operator_pages": "off"}, False),
    ({"operator_pages": "off"}, False),
    ({"host": "0.0.0.0", "operator_pages": "on"}, True),
]


@pytest.mark.parametrize(("given", "served"), SERVED)
def test_without_tls_they_are_off_where_others_could_reach_them(given: dict[str, Any], served: bool) -> None:
    assert is_served(Settings(**given)) is served


async def test_switched_off_there_is_nothing(tmp_path: Path) -> None:
    async with open_house(tmp_path, operator_pages="off") as opened:
        guest = Browser(opened)
        for path in ("/operator", "/operator/login", "/operator/money", "/operator/money.json"):
            assert (await guest.get(path)).status_code == 404
        assert (await guest.send("/operator/login", link="0" * 64)).status_code == 404
        await guest.http.aclose()


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
    for path in files:
        answer = await browser.get(path)
        assert answer.status_code == 200, path
        if path.endswith(".csv"):
            rows = list(csv.DictReader(io.StringIO(answer.text)))
            assert len(rows) == len((await browser.get(path.replace(".csv", ".json"))).json())
    assert (await browser.get(f"/operator/{name}/nothing.csv")).status_code == 404
    assert (await browser.get(f"/operator/{name}.xml")).status_code == 404


async def test_the_balance_sheet_is_that_of_the_report(browser: Browser) -> None:
    async with httpx.AsyncClient(trust_env=False, base_url=browser.house.url) as http:
        quote = (await http.post("/v1/mint/quote/bolt11", json={"amount": 21, "unit": "sat"})).json()
        async with asyncio.timeout(20):
            while (await http.get(f"/v1/mint/quote/bolt11/{quote['quote']}")).json()["state"] != "PAID":
                await asyncio.sleep(0.02)
    found = (await browser.get("/operator/quotes.json", state="paid")).json()["quotes"]
    assert [(row["amount"], row["amount_paid"], row["amount_issued"]) for row in found] == [(21, 21, 0)]
    assert quote["quote"] not in (await browser.get("/operator/quotes", state="paid")).text, "an id is money"
    books = (await browser.get("/operator/money.json")).json()["books"]
    assert (books["settled"], books["sold"], books["unclaimed"], books["balanced"]) == (21, 0, 21, True)


async def test_paid_and_not_credited_is_found_by_its_hash_and_credited(tmp_path: Path) -> None:
    async with open_house(tmp_path, play_settle_after="never") as opened:
        browser = Browser(opened)
        await browser.sign_in()
        async with httpx.AsyncClient(trust_env=False, base_url=opened.url) as http:
            quote = (await http.post("/v1/mint/quote/bolt11", json={"amount": 5, "unit": "sat"})).json()
        (row,) = (await browser.get("/operator/quotes.json")).json()["quotes"]
        for wanted in (row["payment_hash"], quote["request"], quote["request"].upper()):
            (found,) = (await browser.get("/operator/quotes.json", find=wanted)).json()["quotes"]
            assert found["payment_hash"] == row["payment_hash"]
        assert (await browser.get("/operator/quotes.json", find="ab" * 32)).json()["quotes"] == []
        asked_now = await browser.send("/operator/quotes", find=row["payment_hash"])
        assert asked_now.status_code == 200
        assert (await browser.get("/operator/quotes.json")).json()["quotes"][0]["state"] == "unpaid"
        assert opened.service._mint is not None
        await opened.service._mint.till.stop()  # from now on nobody but the page asks the node
        await pay_play_invoice(opened.office.database, quote["request"])
        assert (await browser.send("/operator/quotes", find=row["payment_hash"])).status_code == 200
        (found,) = (await browser.get("/operator/quotes.json", state="paid")).json()["quotes"]
        assert found["amount_paid"] == 5
        await browser.http.aclose()


# --- prices


async def test_a_price_is_previewed_and_set_for_the_next_event(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(DEARER)
    async with open_house(tmp_path, price_file=file) as opened, opened.relay() as relay:
        browser, author = Browser(opened), Author()
        await browser.sign_in()
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
        await browser.http.aclose()


@pytest.mark.parametrize(
    "toml", ["", "base = 1", "[[rule]]\nbase = -1", "[[rule]", "x" * 20_000, "[[rule]]\nttl_max = 0"]
)
async def test_a_list_that_cannot_be_is_not_set(one: House, toml: str) -> None:
    browser = Browser(one)
    await browser.sign_in()
    before = one.office.policy.prices
    shown = await browser.send("/operator/prices", do="set", toml=toml)
    assert shown.status_code == 200 and 'role="alert"' in shown.text
    assert one.office.policy.prices is before
    assert (await browser.get("/operator/prices.json")).json()["set"] is False
    await browser.http.aclose()


async def test_every_process_asks_what_was_set(house: House, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    (second / "mint.seed").write_bytes((house.settings.data_dir / "mint.seed").read_bytes())
    address = house.settings.database_url or f"sqlite:///{house.settings.data_dir / 'pennypost.sqlite'}"
    async with open_house(second, address) as other:
        await house.office.database.write(set_on, DEARER, int(time.time()))
        async with asyncio.timeout(20):
            while any(each.office.policy.prices != parse_prices(DEARER) for each in (house, other)):
                await asyncio.sleep(0.02)
    assert await asked(house.office.database, None) == parse_prices(DEARER)
    async with open_house(second, address) as again:
        assert again.office.policy.prices == parse_prices(DEARER)
        assert parse_prices(DEARER) not in [each.prices for each in again.office.policy.former]


@pytest.mark.parametrize(
    "text",
    [
        DEARER,
        "free_kinds = []\n[[rule]]\nkinds = [1, '30000-39999']\nbase = 2\nwork = 9\n[[rule]]\nper_kib = 1\nper_day = 3",
        "rule = []",
    ],
)
def test_a_list_reads_as_it_is_written(text: str) -> None:
    prices = parse_prices(text)
    assert parse_prices(toml_of(prices)) == prices or not prices.rules


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
async def test_what_cannot_be_banned(one: House, given: dict[str, str]) -> None:
    browser = Browser(one)
    await browser.sign_in()
    assert (await browser.send("/operator/bans", **given)).status_code == 400
    assert (await browser.get("/operator/bans.json")).json() == {"bans": []}
    await browser.http.aclose()


def test_a_spreadsheet_takes_no_cell_for_a_formula() -> None:
    listed = Table("", {"a": ("", "text")}, [{"a": text} for text in ("=1+1", "+1", "-1", "@x", "\t=1", "plain", None)])
    rows = list(csv.reader(io.StringIO(listed.csv().decode())))
    assert [row[0] if row else "" for row in rows[1:]] == ["'=1+1", "'+1", "'-1", "'@x", "'\t=1", "plain", ""]


# --- keysets


async def test_a_rotation_is_previewed_and_is_the_one_that_was_shown(browser: Browser) -> None:
    before = (await browser.get("/operator/keysets.json")).json()["keysets"]
    shown = await browser.send("/operator/keysets", do="preview", final_expiry="2031-12-31")
    (coming,) = re.findall(r'name="id" value="([0-9a-f]+)"', shown.text)
    assert len((await browser.get("/operator/keysets.json")).json()["keysets"]) == len(before) == 1
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
    await browser.send("/operator/keysets", do="sunset")
    assert (await browser.http.post("/v1/mint/quote/bolt11", json=order)).json()["code"] == 20003
    assert (await browser.get("/operator/keysets.json")).json()["selling"] is False
    await browser.send("/operator/keysets", do="resume")
    assert (await browser.http.post("/v1/mint/quote/bolt11", json=order)).status_code == 200


# --- health


async def test_a_sample_is_what_happened_since_the_last_one(house: House) -> None:
    database, metrics = house.office.database, house.service.metrics
    sampler = Sampler(database, metrics, lightning=True)
    await sampler.take(1_000_000 * EVERY)
    author = Author()
    async with house.relay() as relay:
        await house.pay(relay, [author.sign() for _ in range(3)])
        await relay.post(author.sign())
        await sampler.take((1_000_000 + 1) * EVERY + 7)
    _, last = await database.read(samples_on, 0)
    assert (last.at, last.stored, last.refused, last.sat, last.answers) == (1_000_001 * EVERY, 3, 1, 3, 4)
    assert last.connections == 1 and last.bytes > 0 and 0 < last.answer_us <= 4 * 20e6 and last.slow_us > 0
    await sampler.take((1_000_000 + 2) * EVERY + 2 * 86_400)
    assert [each.at for each in await database.read(samples_on, 0)] == [1_000_002 * EVERY + 2 * 86_400]


def _sample(at: int, process: bytes = b"a", **values: int) -> Sample:
    zero = dict.fromkeys(Sample._fields, 0) | {"at": at, "process": process, "seconds": EVERY}
    return Sample(**(zero | values))  # type: ignore[arg-type]


def test_samples_of_several_processes_add_up() -> None:
    taken = [
        _sample(3_570, b"a", stored=30, sat=60, answers=30, answer_us=90_000, slow_us=5_000, waiting=2, connections=4),
        _sample(3_570, b"b", stored=60, answers=60, answer_us=90_000, slow_us=9_000, waiting=3, connections=5),
        _sample(3_600, b"a", stored=30, waiting=9, connections=1, bytes=7),
    ]
    points = series(taken, 3_605, 3_600)
    assert len(points) == 120 and points[-1] == Point(3_600, 1.0, 0.0, 0.0, None, None, 9, 1, 7)
    assert points[-2] == Point(3_570, 3.0, 0.0, 2.0, 2.0, 9.0, 5, 9, 0)
    assert points[0] == Point(30)
    assert series([], 100, 3_600)[-1].stored is None


QUANTILES: list[tuple[dict[float, float], float]] = [
    ({}, 0.0),
    ({0.1: 0, float("inf"): 0}, 0.0),
    ({0.1: 100, 0.2: 100, float("inf"): 100}, 0.095),
    ({0.1: 90, 0.2: 100, float("inf"): 100}, 0.15),
    ({0.1: 10, 0.2: 20, float("inf"): 100}, 0.2),
]


@pytest.mark.parametrize(("buckets", "value"), QUANTILES)
def test_quantiles(buckets: dict[float, float], value: float) -> None:
    assert quantile(buckets, 0.95) == pytest.approx(value)


async def test_health_shows_the_horizon_and_the_refusals(browser: Browser) -> None:
    house, author = browser.house, Author()
    now = int(time.time())
    async with house.relay() as relay:
        await house.pay(relay, [author.sign(expires_in=3_600), author.sign(expires_in=86_400)])
        await relay.post(author.sign())
    await house.office.tallies.write()
    found = (await browser.get("/operator/health.json", hours="3")).json()
    assert found["kept_until"]["first"] == pytest.approx(now + 3_600, abs=5)
    assert found["kept_until"]["last"] == pytest.approx(now + 86_400, abs=5)
    assert found["hours"] == 3 and len(found["points"]) == 120
    assert found["refused"] == {"today": {"stamp-required": 1}, "week": {"stamp-required": 1}}
    assert (await browser.get("/operator/health.json", hours="9999")).json()["hours"] == 24


# --- markup


def test_what_is_no_markup_is_escaped() -> None:
    made = tag("p", "<i>", tag("b", "&"), ['"', None, 3], title='"><script>', hidden=True, open=False, data_x="1")
    assert made == ('<p title="&quot;&gt;&lt;script&gt;" hidden data-x="1">&lt;i&gt;<b>&amp;</b>&quot;3</p>')
