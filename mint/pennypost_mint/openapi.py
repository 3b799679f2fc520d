"""OpenAPI of the mint's routes, from the same structs that read requests and write answers.

The framework is given no models, so that it checks nothing on the way; this keeps its document true.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from pennypost.protocol.nuts import ErrorAnswer

JSON = "application/json"


def documented(
    *,
    answer: Any,
    body: type[msgspec.Struct] | None = None,
    parameter: str | None = None,
) -> dict[str, Any]:
    """Keyword arguments of `add_api_route` that describe a route: request body, path parameter, answers."""
    extra: dict[str, Any] = {}
    if body is not None:
        extra["requestBody"] = {"required": True, "content": {JSON: {"schema": schema(body)}}}
    if parameter is not None:
        extra["parameters"] = [{"name": parameter, "in": "path", "required": True, "schema": {"type": "string"}}]
    refused = {JSON: {"schema": schema(ErrorAnswer)}}
    statuses = {400: "Refused", 503: "Temporarily not possible; repeating is safe"}
    if body is not None:
        statuses[413] = "The body is larger than 1 MiB"
    responses: dict[int, Any] = {200: {"description": "Done", "content": {JSON: {"schema": schema(answer)}}}}
    responses |= {status: {"description": text, "content": refused} for status, text in statuses.items()}
    return {"responses": responses, "openapi_extra": extra or None}


def schema(kind: Any) -> dict[str, Any]:
    """JSON Schema of a struct or a list of them, with definitions in place, since none of them refers to itself."""
    whole = msgspec.json.schema(kind)
    definitions = cast("dict[str, Any]", whole.pop("$defs", {}))
    return cast("dict[str, Any]", _inline(whole, definitions))


def _inline(value: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_inline(each, definitions) for each in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, Any]", value)
    if "$ref" in fields:
        return _inline(definitions[fields["$ref"].rpartition("/")[2]], definitions)
    return {name: _inline(each, definitions) for name, each in fields.items()}
