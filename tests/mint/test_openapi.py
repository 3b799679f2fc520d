"""The mint's OpenAPI document against the mint itself: schemathesis sends what it allows and what it does not.

Whatever is sent, the answer is one that the document names, of the form it names, and never a failure of ours; what the
document does not allow is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, CheckContext, GenerationMode, Response
from schemathesis.checks import (
    content_type_conformance,
    negative_data_rejection,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.schemas import BaseSchema

from tests.mint.test_info import ROUTES
from tests.support.server import Server

CASES = 30
"""Of each route, and of each of the two modes."""


def refused(ctx: CheckContext, response: Response, case: Case) -> bool | None:
    """What the document does not allow is refused; also as too large, which the library does not expect."""
    return None if response.status_code == 413 else negative_data_rejection(ctx, response, case)


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    refused,
]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseSchema]:
    """What a server says of its mint."""
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield schemathesis.openapi.from_url(f"{server.url}/openapi.json").include(tag="mint")


ROWS = [
    pytest.param(method, path, mode, id=f"{method} {path} {mode.value}")
    for method, path in sorted(ROUTES)
    for mode in GenerationMode
    # Where nothing is taken there is nothing to get wrong.
    if method == "post" or "{" in path or mode is GenerationMode.POSITIVE
]


@pytest.mark.parametrize(("method", "path", "mode"), ROWS)
def test_the_document_is_true(document: BaseSchema, method: str, path: str, mode: GenerationMode) -> None:
    operation = document[path][method.upper()]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=CASES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    def run(case: Case) -> None:
        case.call_and_validate(checks=CHECKS)

    run()
