"""A server's OpenAPI document against the server: schemathesis sends what it allows and what it does not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy
from schemathesis import Case, CheckContext, GenerationMode, Response
from schemathesis.checks import (
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    not_a_server_error,
    positive_data_acceptance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.schemas import APIOperation, BaseSchema

from pennypost_mint.runtime.openapi import TEXT

schemathesis.serializer.alias("application/nostr+json+rpc", "application/json")

Prepare = Callable[[Case], Mapping[str, Any]]
"""Changes a case before it is sent; what it returns goes to the transport (headers, auth, …)."""

METHODS = ("get", "head", "post", "put", "patch", "delete", "options", "trace")


def refused(ctx: CheckContext, response: Response, case: Case) -> bool | None:
    """What the document does not allow is refused; also as too large, which the library does not expect."""
    return None if response.status_code == 413 else negative_data_rejection(ctx, response, case)


ALWAYS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
"""The code in a refusal's text is part of its schema: one of those that its status has in the error table."""

CHECKS = [*ALWAYS, refused, ignored_auth]
"""Those of the library that are not here, and why:

unsupported_method, allow_header_conformance, missing_required_header: they look at what the library's own runner sends;
    `undocumented_methods` does it for every path
use_after_free, ensure_resource_availability: nothing here is made by one route and deleted by another
object_level_authorization: there is one identity, the operator
positive_data_acceptance: `accepts` says where
"""


def accepts(operation: APIOperation) -> bool:
    """Whether all that has the right form is taken: no refusal with 400 is documented. Elsewhere the form is not all: a
    signature must be good, a quote must be there, a price list must be TOML."""
    return 400 not in operation.responses.status_codes and "400" not in operation.responses.status_codes


def takes(operation: APIOperation) -> bool:
    """Whether there is anything to get wrong: a body, a part of the path, a query that is not just any text."""
    asked = any(each.definition["schema"] != TEXT for each in operation.query)
    return bool(operation.body or operation.path_parameters or asked)


def operations_of(document: BaseSchema) -> Iterator[APIOperation]:
    """All of them."""
    for found in document.get_all_operations():
        yield found.ok()  # pyright: ignore[reportAttributeAccessIssue]


def hold(
    operation: APIOperation,
    mode: GenerationMode,
    cases: int,
    session: requests.Session,
    prepare: Prepare | None = None,
    checks: list[Any] | None = None,
    **strategies: SearchStrategy[Any],
) -> set[int]:
    """Sends so many cases and holds every answer against the document; the statuses that came.

    `strategies` are drawn beside the case and given to `prepare`.
    """
    wanted = [*(CHECKS if checks is None else checks)]
    if mode is GenerationMode.POSITIVE and accepts(operation) and positive_data_acceptance not in wanted:
        wanted.append(positive_data_acceptance)
    statuses: set[int] = set()

    @given(case=operation.as_strategy(generation_mode=mode), **strategies)
    @settings(
        max_examples=cases, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    def run(case: Case, **drawn: Any) -> None:
        sends = {} if prepare is None else prepare(case, **drawn)
        answer = case.call_and_validate(session=session, checks=wanted, allow_redirects=False, **sends)
        statuses.add(answer.status_code)

    run()
    return statuses


def undocumented_methods(document: BaseSchema, url: str, session: requests.Session) -> dict[str, str]:
    """What every path answers to methods that it does not have: 405 with those it has in Allow (RFC 9110, 15.5.6).

    HEAD is in no document; where there is GET there may be HEAD. Returns what is wrong, by path.
    """
    wrong: dict[str, str] = {}
    paths = document.raw_schema["paths"]
    patterns = {re.compile(re.sub(r"\{\w+\}", "[^/]+", path)): set(METHODS) & set(item) for path, item in paths.items()}
    for path in paths:
        at = path.replace("{", "").replace("}", "")
        # what fits a path with a part left open has the methods of that one, too
        documented = set[str]().union(*(methods for each, methods in patterns.items() if each.fullmatch(at)))
        for method in METHODS:
            if method in documented:
                continue
            answer = session.request(method, url + at, allow_redirects=False)
            allowed = {each.strip().lower() for each in answer.headers.get("allow", "").split(",")}
            if method == "head" and answer.status_code in (200, 404) and "get" in documented:
                continue
            if answer.status_code != 405 or allowed - {"head"} != documented:
                wrong[f"{method} {path}"] = f"{answer.status_code} {sorted(allowed)}"
    return wrong
