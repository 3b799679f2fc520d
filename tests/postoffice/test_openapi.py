"""The OpenAPI document of a post office against the office itself: schemathesis sends what it allows and what not.

Every route of a process of each role is in its document; every answer is one that the document names, of the form it
names, and never a failure of ours. The mint's routes: tests/mint/test_openapi.py.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.schemas import BaseSchema

from pennypost.protocol import secp
from pennypost.protocol.errors import TABLE
from pennypost.protocol.event import event_json, sign_event
from pennypost_mint.runtime.openapi import CODES
from pennypost_mint.runtime.settings import Settings
from pennypost_postoffice.app import Service
from tests.support.openapi import ALWAYS, CHECKS, hold, operations_of, takes, undocumented_methods
from tests.support.operator import KEY, Operator
from tests.support.server import Server

CASES = 15
"""Of each route, and of each of the two modes."""
FEW = 2
"""Of a route that takes nothing."""

TAGS = ("server", "pages", "post office", "operator")

UNLISTED = {
    "/v1/melt": "answers 404 to every method: stamps are not bought back",
    "/v1/melt/{rest:path}": "the same",
}
"""Routes that are in no document, and why. Besides, HEAD of what GET has."""


@pytest.mark.parametrize("role", ["all", "mint", "postoffice"])
async def test_every_route_is_in_the_document_and_every_code_in_the_table(tmp_path: Path, role: str) -> None:
    more = {"mint_urls": "http://127.0.0.1:1"} if role == "postoffice" else {}
    service = await Service.open(Settings.model_validate({"data_dir": tmp_path, "role": role} | more), in_process=True)
    try:
        document = json.loads(service.web.document.body)
        routes = {(method, route.path) for route in service.web.routes for method in route.methods}
    finally:
        await service.close()
    listed = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    served = {(method, path.replace(":path}", "}")) for method, path in routes if path not in UNLISTED}
    assert {each for each in served if each[0] != "HEAD"} == listed
    assert {path for method, path in served if method == "HEAD"} <= {path for method, path in listed if method == "GET"}
    table = {(error.code, error.status) for error in TABLE}
    for path, item in document["paths"].items():
        for operation in item.values():
            assert operation["summary"] and operation["description"] and operation["operationId"], path
            assert operation["tags"] and "422" not in operation["responses"]
            for status, response in operation["responses"].items():
                codes = response.get(CODES, [])
                assert bool(codes) == (int(status) >= 400)
                assert {(code, int(status)) for code in codes} <= table, path
                assert ("Retry-After" in response.get("headers", {})) == (status in ("429", "503"))
    schemes = document["components"]["securitySchemes"]
    operations = [each for item in document["paths"].values() for each in item.values()]
    assert {name for each in operations for one in each.get("security", []) for name in one} == set(schemes)
    names = [each["operationId"] for each in operations]
    assert len(names) == len(set(names))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Mint and post office."""
    with Server(tmp_path_factory.mktemp("server"), settings={"OPERATORS": secp.xonly(KEY).hex()}) as started:
        yield started


@pytest.fixture(scope="module")
def document(server: Server) -> BaseSchema:
    """What it says of itself."""
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as opened:
        opened.trust_env = False
        yield opened


@pytest.fixture(scope="module")
def operator(server: Server, session: requests.Session) -> Operator:
    return Operator(server, session)


def never_waits(case: Case, prepared: Mapping[str, Any]) -> Mapping[str, Any]:
    """A good `wait` is a long poll of up to a minute: tests/postoffice/test_feed_waiters.py."""
    if str(case.query.get("wait", "0")).isdecimal():
        case.query.pop("wait", None)
    return prepared


@pytest.mark.parametrize("mode", GenerationMode, ids=lambda mode: mode.value)
@pytest.mark.parametrize("who", ["stranger", "signed_in"])
@pytest.mark.parametrize("tag", TAGS)
def test_the_document_is_true(
    document: BaseSchema, session: requests.Session, operator: Operator, tag: str, who: str, mode: GenerationMode
) -> None:
    prepare = getattr(operator, who)
    for operation in operations_of(document.include(tag=tag)):
        if who == "signed_in" and not operation.path.startswith("/operator"):
            continue  # who is signed in does not matter there
        if mode is GenerationMode.NEGATIVE and not takes(operation):
            continue  # nothing is taken, so there is nothing to get wrong
        # signed in, the fixture puts right what was drawn wrong: session, Origin, key of the form
        checks = ALWAYS if who == "signed_in" and mode is GenerationMode.NEGATIVE else CHECKS
        statuses = hold(
            operation,
            mode,
            CASES if takes(operation) else FEW,
            session,
            lambda case: never_waits(case, prepare(case)),
            checks,
        )
        if who == "signed_in" and operation.method == "get" and mode is GenerationMode.POSITIVE:
            assert {200, 303} & statuses, operation.label


def test_management_is_as_documented(document: BaseSchema, session: requests.Session, operator: Operator) -> None:
    for mode in GenerationMode:
        # what a method refuses is answered with 200 (NIP-86), so nothing here is "rejected"
        statuses = hold(document["/"]["POST"], mode, CASES, session, operator.signing, ALWAYS)
        assert 200 in statuses


def test_other_methods_are_refused(server: Server, document: BaseSchema, session: requests.Session) -> None:
    assert undocumented_methods(document, server.url, session) == {}


# --- bodies that the document does not make: bytes, JSON of any form, what nearly is an event, a release or a call


hex64 = st.text("0123456789abcdef", min_size=64, max_size=64)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | hex64,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def nearly(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object of these fields, each of its own form or of any."""
    return st.fixed_dictionaries({}, optional={name: form | anything for name, form in fields.items()})


event = nearly(
    id=hex64,
    pubkey=hex64,
    created_at=st.integers(0, 2**53),
    kind=st.integers(0, 2**16),
    tags=st.lists(st.lists(st.text(max_size=8), max_size=3), max_size=3),
    content=st.text(max_size=20),
    sig=st.text("0123456789abcdef", min_size=128, max_size=128),
)


def signed(kind: int) -> dict[str, Any]:
    now = int(time.time())
    return json.loads(event_json(sign_event(KEY, created_at=now, kind=kind, tags=[], content="x", aux=bytes(32))))


whole = st.just(signed(1059)) | st.just(signed(10_002))
release = st.fixed_dictionaries({"x": hex64, "id": hex64})
BODIES = {
    "/": (anything | nearly(method=st.just("banpubkey"), params=st.lists(anything)), {401, 404}),
    "/v1/events": (
        whole | event | anything | st.tuples(st.just("EVENT"), event | whole, anything, anything),
        {200, 400, 402},
    ),
    "/v1/holds/{hold}": (release | nearly(x=hex64, id=hex64) | anything, {400, 403}),
}
"""And the statuses that may come: of what is whole, a letter is not paid for, and a relay list needs no stamp."""
latin = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40)
headers = st.fixed_dictionaries(
    {"content-type": st.sampled_from(["application/json", "application/nostr+json+rpc", "text/plain"])},
    optional={"accept": latin | st.just("application/nostr+json"), "x-cashu": latin, "authorization": latin},
)


@pytest.mark.parametrize("path", BODIES)
def test_every_answer_is_documented_whatever_the_body(
    document: BaseSchema, session: requests.Session, path: str
) -> None:
    bodies, expected = BODIES[path]

    def prepare(case: Case, body: bytes, sent: dict[str, str]) -> Mapping[str, Any]:
        case.headers.clear()
        return {"data": body, "headers": sent}

    statuses = hold(
        document[path]["POST"],
        GenerationMode.POSITIVE,
        2 * CASES,
        session,
        prepare,
        ALWAYS,
        body=st.binary(max_size=64) | bodies.map(lambda value: json.dumps(value).encode()),
        sent=headers,
    )
    # free events are limited for each source
    assert statuses and statuses - {429} <= expected


@pytest.mark.parametrize(("kind", "status"), [(1059, 402), (10_002, 200), (22_242, 400)])
def test_each_answer_to_an_event_is_documented(
    server: Server, document: BaseSchema, session: requests.Session, kind: int, status: int
) -> None:
    answer = session.post(f"{server.url}/v1/events", json=signed(kind))
    assert answer.status_code == status
    document["/v1/events"]["POST"].validate_response(answer)
    assert ("X-Cashu" in answer.headers) == (status == 402)


@pytest.mark.parametrize("accept", ["application/nostr+json", "application/json", "text/html", "*/*", ""])
def test_the_front_is_as_documented_for_every_accept(
    document: BaseSchema, session: requests.Session, accept: str
) -> None:
    sends = {"headers": {"accept": accept}}
    assert hold(document["/"]["GET"], GenerationMode.POSITIVE, FEW, session, lambda _: sends) == {200}


def test_an_office_apart_is_as_documented(tmp_path: Path, session: requests.Session) -> None:
    settings = {"ROLE": "postoffice", "MINT_URLS": "http://127.0.0.1:1", "OPERATORS": secp.xonly(KEY).hex()}
    with Server(tmp_path, settings=settings) as apart:
        document = schemathesis.openapi.from_url(f"{apart.url}/openapi.json")
        operator = Operator(apart, session)
        for operation in operations_of(document):
            if operation.method == "get" and not takes(operation):
                assert hold(operation, GenerationMode.POSITIVE, 1, session, operator.signed_in) <= {200, 303}
