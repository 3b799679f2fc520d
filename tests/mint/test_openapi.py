"""The OpenAPI document of a mint against the mint itself: schemathesis sends what it allows and what it does not.

Whatever is sent, the answer is one that the document names, of the form it names, and never a failure of ours; what the
document does not allow is refused. The mint serves nothing else: pages and operator's pages of this role are with it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
import schemathesis
from schemathesis import GenerationMode
from schemathesis.schemas import BaseSchema

from pennypost.protocol import secp
from tests.mint.test_info import ROUTES
from tests.support.openapi import hold, operations_of, takes, undocumented_methods
from tests.support.operator import KEY, Operator
from tests.support.server import Server

CASES = 30
"""Of each route, and of each of the two modes."""
FEW = 3
"""Of a route that takes nothing."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A mint alone."""
    settings = {"ROLE": "mint", "OPERATORS": secp.xonly(KEY).hex()}
    with Server(tmp_path_factory.mktemp("server"), settings=settings) as started:
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


ROWS = [
    pytest.param(method, path, mode, id=f"{method} {path} {mode.value}")
    for method, path in sorted(ROUTES)
    for mode in GenerationMode
    # Where nothing is taken there is nothing to get wrong.
    if method == "post" or "{" in path or mode is GenerationMode.POSITIVE
]


@pytest.mark.parametrize(("method", "path", "mode"), ROWS)
def test_the_document_is_true(
    document: BaseSchema, session: requests.Session, method: str, path: str, mode: GenerationMode
) -> None:
    operation = document[path][method.upper()]
    hold(operation, mode, CASES if takes(operation) else FEW, session)


@pytest.mark.parametrize("signed_in", [False, True])
def test_of_everything_else_it_serves_too(
    server: Server, document: BaseSchema, session: requests.Session, signed_in: bool
) -> None:
    others = [each for each in operations_of(document) if (each.method, each.path) not in ROUTES]
    assert {"/", "/buy", "/healthz", "/operator/money", "/operator/quotes/quotes.csv"} <= {each.path for each in others}
    operator = Operator(server, session)
    for operation in others:
        prepare = operator.signed_in if signed_in else operator.stranger
        statuses = hold(operation, GenerationMode.POSITIVE, FEW, session, prepare)
        if signed_in and operation.method == "get" and not operation.path_parameters:
            assert statuses <= {200, 303}, operation.label


def test_other_methods_are_refused(server: Server, document: BaseSchema, session: requests.Session) -> None:
    assert undocumented_methods(document, server.url, session) == {}
