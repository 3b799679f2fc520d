"""What a route takes, answers and refuses, written once beside it, as OpenAPI 3.1 has it.

    Operation ── declared ──▶ keyword arguments of the framework's `add_api_route`
       ├ answers, parameters, body     JSON Schema, made of the structs and NamedTuples that are read and written
       └ refusals                      classes of the error tree ─▶ statuses, codes, sentences, Retry-After

The framework is given no models, so that it reads and checks nothing on the way: a route takes the request and returns
the response. Tests hold every answer against the document.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple, cast, get_type_hints

import msgspec

from pennypost.protocol.answers import ErrorAnswer
from pennypost.protocol.errors import PennypostError, ServerError

Schema = dict[str, Any]
Refusal = type[PennypostError]
Content = dict[str, Schema]
"""Schemas by media type."""

JSON = "application/json"
HTML = "text/html"
FORM = "application/x-www-form-urlencoded"

TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
BOOLEAN: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
TIME: Schema = {"type": "integer", "minimum": 0, "description": "Unix seconds"}
HEX64: Schema = {"type": "string", "pattern": r"^[0-9a-f]{64}$(?!\n)"}
RETRY_AFTER: Schema = {"type": "integer", "minimum": 1, "description": "Seconds to wait"}

CODES = "x-codes"
"""Extension of a response: the codes of the error table that it may have."""


class Parameter(NamedTuple):
    """A part of the path, a query parameter or a header."""

    name: str
    where: Literal["path", "query", "header"]
    schema: Schema
    description: str
    required: bool = False


class Body(NamedTuple):
    """What is sent."""

    content: Content
    description: str = ""
    required: bool = True


class Answer(NamedTuple):
    """What is answered with one status; `headers` are there always, `may` sometimes."""

    description: str
    content: Mapping[str, Schema] = {}
    headers: Mapping[str, Schema] = {}
    may: Mapping[str, Schema] = {}


def refused(errors: Sequence[Refusal]) -> Content:
    """A refusal as `{"detail", "code"}` (NUT-00, Errors); `detail` ends with one of the codes in brackets."""
    form: dict[str, Any] = schema(ErrorAnswer) | {"description": "A refusal (NUT-00, Errors)"}
    form["properties"]["detail"]["pattern"] = ends_with(errors)
    form["properties"]["code"] = {"type": "integer", "enum": sorted({error.cashu for error in errors})}
    return {JSON: form}


class Operation(NamedTuple):
    """One route. `refused_as` writes the refusals of one status; `more` adds headers to some of them."""

    name: str
    summary: str
    description: str
    answers: Mapping[int, Answer]
    refusals: Sequence[Refusal] = ()
    parameters: Sequence[Parameter] = ()
    body: Body | None = None
    security: Sequence[str] = ()
    """Names of security schemes, of which one is enough; "" is none at all."""
    refused_as: Callable[[Sequence[Refusal]], Content] = refused
    more: Mapping[int, Mapping[str, Schema]] = {}
    """Headers that refusals of a status may have."""


def declared(operation: Operation) -> dict[str, Any]:
    """Keyword arguments of `add_api_route` that describe this route."""
    extra: dict[str, Any] = {}
    if operation.parameters:
        extra["parameters"] = [_parameter(each) for each in operation.parameters]
    if operation.body is not None:
        body = operation.body
        extra["requestBody"] = {"required": body.required, "content": _content(body.content)}
        if body.description:
            extra["requestBody"]["description"] = body.description
    if operation.security:
        extra["security"] = [{name: []} if name else {} for name in operation.security]
    return {
        "summary": operation.summary,
        "description": operation.description,
        "operation_id": operation.name,
        "responses": _responses(operation),
        "response_model": None,
        "status_code": min(operation.answers),
        "openapi_extra": extra or None,
    }


def _responses(operation: Operation) -> dict[int | str, dict[str, Any]]:
    responses: dict[int | str, dict[str, Any]] = {
        status: _response(each.description, each.content, each.headers, each.may)
        for status, each in operation.answers.items()
    }
    for status, errors in by_status((*operation.refusals, ServerError)).items():
        listed = "\n".join(f"- `{error.code}`: {error.sentence()}" for error in errors)
        wait = {"Retry-After": RETRY_AFTER} if status in (429, 503) else {}
        about, may = f"Refused, with one of these codes:\n{listed}", operation.more.get(status, {})
        said = _response(about, operation.refused_as(errors), wait, may)
        responses[status] = said | {CODES: [error.code for error in errors]}
    return dict(sorted(responses.items(), key=lambda each: int(each[0])))


def by_status(errors: Iterable[Refusal]) -> dict[int, list[Refusal]]:
    """The classes by their HTTP status, each once, in their order."""
    found: dict[int, list[Refusal]] = {}
    for error in dict.fromkeys(errors):
        found.setdefault(error.status, []).append(error)
    return found


def ends_with(errors: Iterable[Refusal]) -> str:
    """The pattern of a sentence that ends with the code of one of these, as `nip01` and `nut00` write it."""
    return rf"\[({'|'.join(error.code for error in errors)})\]$(?!\n)"


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.required or parameter.where == "path",
        "schema": parameter.schema,
        "description": parameter.description,
    }


def _response(
    description: str, content: Mapping[str, Schema], headers: Mapping[str, Schema], may: Mapping[str, Schema]
) -> dict[str, Any]:
    found: dict[str, Any] = {"description": description}
    if content:
        found["content"] = _content(content)
    if headers or may:
        found["headers"] = {name: {"required": True, "schema": form} for name, form in headers.items()}
        found["headers"] |= {name: {"schema": form} for name, form in may.items()}
    return found


def _content(content: Mapping[str, Schema]) -> dict[str, Any]:
    return {media_type: {"schema": form} for media_type, form in content.items()}


def schema(kind: Any) -> Schema:
    """JSON Schema of a struct, or of any type that msgspec knows, with definitions in place: none refers to itself."""
    whole = _schema(kind)
    definitions = cast("dict[str, Any]", whole.get("$defs", {}))
    return cast("Schema", _inline({name: each for name, each in whole.items() if name != "$defs"}, definitions))


@cache
def _schema(kind: Any) -> Schema:
    # the same few stand in most of the operations, and one is as dear as ten routes
    return msgspec.json.schema(kind)


def _inline(value: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_inline(each, definitions) for each in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    found = cast("dict[str, Any]", value)
    if "$ref" in found:
        return _inline(definitions[found["$ref"].rpartition("/")[2]], definitions)
    return {name: _inline(each, definitions) for name, each in found.items()}


def record(kind: type, **more: Schema) -> Schema:
    """An object with the fields of a NamedTuple, as `_asdict()` writes it; `more` are fields that differ."""
    # the class itself is no place to look for names: a field may be called `bytes`
    hints = get_type_hints(kind, vars(sys.modules[kind.__module__]), {})
    return fields(**({name: schema(hint) for name, hint in hints.items() if name not in more} | more))


def fields(**properties: Schema) -> Schema:
    """An object with these fields, all of them and no others."""
    return optional(list(properties), **properties)


def optional(required: Sequence[str] = (), **properties: Schema) -> Schema:
    """An object with no other fields than these, of which some are required."""
    form: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return form | {"required": list(required)} if required else form


def mapping(values: Schema) -> Schema:
    """An object with any names."""
    return {"type": "object", "additionalProperties": values}


def array(items: Schema, **bounds: int) -> Schema:
    """A list; `bounds` are minItems and maxItems."""
    return {"type": "array", "items": items} | bounds


def any_of(*forms: Schema) -> Schema:
    """One of these."""
    return {"anyOf": list(forms)}


def or_null(form: Schema) -> Schema:
    """This, or null."""
    return any_of(form, {"type": "null"})


def one_of(*values: str) -> Schema:
    """One of these texts."""
    return {"type": "string", "enum": list(values)}
