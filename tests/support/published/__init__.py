"""Published shapes of services that cannot run here, in our own words; each file says where they were read.

    what an adapter sends ─▶ a stand-in, which answers and notes both ─▶ `strays`: what of it does not fit

Only what the adapters use is written down, and that whole: every field, its type, whether it must be there. No service
was asked: what a live one does besides its published shape is not known here.
"""

from __future__ import annotations

from typing import Any

import jsonschema_rs

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
UUID: Schema = {"type": "string", "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"}
TIME: Schema = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"}


def whole(bits: int) -> Schema:
    """An unsigned integer of so many bits."""
    return {"type": "integer", "minimum": 0, "maximum": 2**bits - 1}


def hexadecimal(size: int | None = None) -> Schema:
    """Lower-case hex of so many bytes."""
    return {"type": "string", "pattern": "^([0-9a-f]{2})" + ("*" if size is None else f"{{{size}}}") + "$"}


def one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def list_of(each: Schema) -> Schema:
    return {"type": "array", "items": each}


def shape(must: dict[str, Schema], may: dict[str, Schema] | None = None) -> Schema:
    """An object with these fields, and those it may have besides; no others."""
    fields = must | (may or {})
    return {"type": "object", "required": list(must), "properties": fields, "additionalProperties": False}


def strays(schema: Schema, value: Any) -> list[str]:
    """What of a value does not fit its published shape."""
    return [error.message for error in jsonschema_rs.validator_for(schema).iter_errors(value)]
