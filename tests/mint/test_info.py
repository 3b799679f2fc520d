"""What the mint says of itself, and its OpenAPI document."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from pennypost.protocol import secp
from pennypost_mint.api import mint_router
from pennypost_mint.info import PLAY
from tests.mint.desk import open_desk, settings_for

ROUTES = {
    ("get", "/v1/info"),
    ("get", "/v1/keys"),
    ("get", "/v1/keys/{keyset_id}"),
    ("get", "/v1/keysets"),
    ("post", "/v1/mint/quote/bolt11"),
    ("get", "/v1/mint/quote/bolt11/{quote_id}"),
    ("post", "/v1/mint/quote/bolt11/check"),
    ("post", "/v1/mint/bolt11"),
    ("post", "/v1/mint/bolt11/batch"),
    ("post", "/v1/swap"),
    ("post", "/v1/checkstate"),
    ("post", "/v1/restore"),
}


async def test_info(tmp_path: Path) -> None:
    async with open_desk(settings_for(tmp_path, name="Anna's office", contact="anna@example.org")) as desk:
        response = await desk.http.get("/v1/info")
    info = response.json()
    assert response.headers["content-type"] == "application/json"
    assert info["name"] == "Anna's office (play money)"
    assert info["motd"] == PLAY
    assert info["contact"] == [{"method": "email", "info": "anna@example.org"}]
    assert info["urls"] == ["http://127.0.0.1:3338"]
    assert info["version"].startswith("pennypost/")
    assert abs(info["time"] - time.time()) < 60
    assert secp.is_point(bytes.fromhex(info["pubkey"]))
    assert info["max_array_length"] == 1_000
    nuts = info["nuts"]
    assert nuts["5"] == {"methods": [], "disabled": True}
    assert nuts["4"]["disabled"] is False
    assert nuts["4"]["methods"] == [
        {"method": "bolt11", "unit": "sat", "min_amount": 1, "max_amount": 100_000, "options": {"description": True}}
    ]
    assert [number for number in nuts if nuts[number] == {"supported": True}] == [
        *("7", "9", "10", "11", "12", "14", "20")
    ]
    assert nuts["19"]["ttl"] >= 3_600
    cached = {each["path"] for each in nuts["19"]["cached_endpoints"]}
    assert cached == {"/v1/swap", "/v1/mint/bolt11", "/v1/mint/bolt11/batch"}
    commands = ["bolt11_mint_quote", "proof_state"]
    assert nuts["17"] == {"supported": [{"method": "bolt11", "unit": "sat", "commands": commands}]}
    assert nuts["29"] == {"max_batch_size": 100, "methods": ["bolt11"]}


@pytest.fixture
async def document(tmp_path: Path) -> Any:
    async with open_desk(settings_for(tmp_path)) as desk:
        app = FastAPI()
        app.include_router(mint_router(desk.mint))
        return app.openapi()


async def test_every_route_is_documented_and_none_by_the_framework(document: Any) -> None:
    found = {(method, path.replace(":path", "")) for path, item in document["paths"].items() for method in item}
    assert found == ROUTES
    for item in document["paths"].values():
        for operation in item.values():
            assert "422" not in operation["responses"]
            assert {"200", "500", "503"} <= set(operation["responses"])
            takes = "requestBody" in operation or "parameters" in operation
            assert ({"400", "429"} <= set(operation["responses"])) == takes
    assert "ValidationError" not in str(document)
    assert "$ref" not in str(document["paths"])


async def test_bodies_and_answers_have_their_shape(document: Any) -> None:
    swap = document["paths"]["/v1/swap"]["post"]
    body = swap["requestBody"]["content"]["application/json"]["schema"]
    assert body["required"] == ["inputs", "outputs"]
    assert set(body["properties"]["outputs"]["items"]["properties"]) == {"amount", "id", "B_"}
    answer = swap["responses"]["200"]["content"]["application/json"]["schema"]
    signature = answer["properties"]["signatures"]["items"]
    assert {"amount", "id", "C_", "dleq"} <= set(signature["properties"])
    assert signature["properties"]["C_"]["pattern"]
    assert "413" in swap["responses"]
    refused = swap["responses"]["400"]["content"]["application/json"]["schema"]
    assert {10000, 10001, 11001, 11003, 11005, 12002} <= set(refused["properties"]["code"]["enum"])
