"""The post office's routes as the OpenAPI document lists them: whatever is sent, the answer is one of ours.

The document names paths and parameters; bodies and queries are made here: bytes, JSON of any form, and what nearly is
an event, a release or a call.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import BaseSchema

from pennypost.protocol import secp
from pennypost.protocol.errors import TABLE
from pennypost.protocol.event import event_json, sign_event
from tests.support.server import Server

CASES = 50
"""Of each route."""

KEY = bytes([5]) * 32

ROUTES = {
    ("get", "/"): {200},
    ("post", "/"): {401, 404},
    ("get", "/v1/headers"): {200, 400},
    ("get", "/v1/pages/{page}"): {200, 400},
    ("post", "/v1/events"): {400, 402},
    ("post", "/v1/holds/{hold}"): {400, 403},
}
"""And the status of every answer that comes: what is not paid for, signed or held is not taken."""

STATUS = {error.code: error.status for error in TABLE}
FRAMEWORK = (b"Traceback", b"pydantic", b"sqlalchemy", b'"loc"', b"msgspec")

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
call = nearly(method=st.sampled_from(["supportedmethods", "banpubkey", ""]), params=st.lists(anything, max_size=3))
letter = sign_event(KEY, created_at=int(time.time()), kind=1059, tags=[["p", "05" * 32]], content="x", aux=bytes(32))
whole = st.just(json.loads(event_json(letter)))
release = st.fixed_dictionaries({"x": hex64, "id": hex64})
BODIES = {
    "/": anything | call,
    "/v1/events": whole | event | anything | st.tuples(st.just("EVENT"), event | whole, anything, anything),
    "/v1/holds/{hold}": release | nearly(x=hex64, id=hex64) | anything,
}
# none of them waits
numbers = st.sampled_from(["", "0", "-1", "1.0", "01", "٣", "9007199254740992", "1e3"]) | st.text(max_size=20)
queries = st.fixed_dictionaries(
    {}, optional={"after": numbers, "limit": numbers, "wait": st.sampled_from(["", "0", "-1", "x", "9" * 17])}
)
latin = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40)
headers = st.fixed_dictionaries(
    {"content-type": st.sampled_from(["application/json", "application/nostr+json+rpc", "text/plain"])},
    optional={"accept": latin | st.just("application/nostr+json"), "x-cashu": latin, "authorization": latin},
)


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseSchema]:
    """What a server says of its post office."""
    with Server(tmp_path_factory.mktemp("server"), settings={"OPERATORS": secp.xonly(KEY).hex()}) as server:
        yield schemathesis.openapi.from_url(f"{server.url}/openapi.json").include(tag="post office")


def test_every_route_is_listed(document: BaseSchema) -> None:
    found = [operation.ok() for operation in document.get_all_operations()]  # pyright: ignore[reportAttributeAccessIssue]
    assert {(operation.method, operation.path) for operation in found} == set(ROUTES)


@pytest.mark.parametrize(("method", "path"), sorted(ROUTES))
def test_every_answer_is_one_of_ours(document: BaseSchema, method: str, path: str) -> None:
    operation = document[path][method.upper()]
    bodies = st.binary(max_size=64) | BODIES.get(path, anything).map(lambda value: json.dumps(value).encode())
    # a path of any text is hardly ever the tag of a hold
    holds = hex64 | st.none()

    @given(case=operation.as_strategy(), body=bodies, query=queries, sent=headers, hold=holds)
    @settings(
        max_examples=CASES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    def run(case: Case, body: bytes, query: dict[str, str], sent: dict[str, str], hold: str | None) -> None:
        sends: dict[str, Any] = {"data": body} if method == "post" else {"params": query}
        if hold and "hold" in case.path_parameters:
            case.path_parameters["hold"] = hold
        response = case.call_and_validate(headers=sent, checks=[not_a_server_error], **sends)
        assert not any(word in response.content for word in FRAMEWORK)
        statuses.add(response.status_code)
        if response.status_code == 200:
            return
        answer = response.json()
        if "accepted" in answer:
            # what was read as an event is answered as on a connection
            assert set(answer) == {"id", "accepted", "message"} and answer["accepted"] is False
            assert response.status_code in (400, 402)
        else:
            # everything else as NUT-00 has it
            assert set(answer) == {"detail", "code"} and type(answer["code"]) is int
            code = re.fullmatch(r".* \[([a-z-]+)\]", answer["detail"])
            assert code is not None and response.status_code == STATUS[code[1]]

    statuses: set[int] = set()
    run()
    # where CPU is scarce, readers share it
    assert statuses - {429} == ROUTES[method, path]
