"""What compose.yaml starts, started without containers: the image's command with each service's own environment.

There is no engine here. Names of containers become addresses of this machine, volumes become folders; all else is as it
stands in compose.yaml and Dockerfile.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from sqlalchemy.engine import make_url

from pennypost_mint.runtime.settings import PREFIX, load_settings
from tests.support.nats import Nats
from tests.support.ports import free_port
from tests.support.server import Server

PROJECT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
BUILT = [name for name, service in SERVICES.items() if "build" in service]
IMAGE = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", (PROJECT / "Dockerfile").read_text(), flags=re.MULTILINE))
FINAL = IMAGE[IMAGE.rindex("FROM ") :]
PASSWORD = {"POSTGRES_PASSWORD": "secret"}


def written(name: str, given: Mapping[str, str]) -> dict[str, str]:
    """A service's environment, as compose fills it in: `${NAME:-default}`, `${NAME:?why}`."""

    def value(match: re.Match[str]) -> str:
        variable, kind, rest = match[1], match[2], match[3]
        if given.get(variable):
            return given[variable]
        assert kind == ":-", f"{variable} must be given: {rest}"
        return rest

    text = {key: str(each) for key, each in SERVICES[name].get("environment", {}).items()}
    return {key: re.sub(r"\$\{(\w+)(:[-?])([^}]*)\}", value, each) for key, each in text.items()}


def in_image() -> dict[str, str]:
    """What the image itself sets."""
    (line,) = re.findall(r"^ENV (.+)$", FINAL, re.MULTILINE)
    return dict(re.findall(r"(\w+)=(\S+)", line))


def instruction(word: str) -> list[str]:
    """The JSON form of ENTRYPOINT, CMD or the command of HEALTHCHECK."""
    (found,) = re.findall(rf"^{word} .*?(\[.*\])$", FINAL, re.MULTILINE)
    return json.loads(found)


def test_sources_of_the_image_are_let_through() -> None:
    """Of two lines of .dockerignore that fit a file the later one counts."""
    lines = [line for line in (PROJECT / ".dockerignore").read_text().splitlines() if line]
    sources = " ".join(re.findall(r"^COPY (?!--from)(.+) \S+$", IMAGE, re.MULTILINE)).split()
    assert len(sources) >= 6
    for source in sources:
        assert (PROJECT / source).exists(), source
        fitting = [line for line in lines if fnmatch(source, line.removeprefix("!"))]
        assert fitting and fitting[-1].startswith("!"), source
    stages = re.findall(r"^FROM \S+ AS (\w+)$", IMAGE, re.MULTILINE)
    assert set(re.findall(r"COPY --from=(\w+)", IMAGE)) <= set(stages)


def test_profiles_that_are_told_of_exist() -> None:
    profiles = {each for service in SERVICES.values() for each in service.get("profiles", [])}
    for path in (PROJECT / "compose.yaml", *(PROJECT / "docs").rglob("*.md"), PROJECT / "README.md"):
        assert set(re.findall(r"--profile (\w+)", path.read_text())) <= profiles, path


@pytest.mark.parametrize("name", BUILT)
def test_the_settings_of_a_service_are_ones(name: str) -> None:
    """Every name and every value, defaults included; the image runs `pennypost up` as nobody in particular."""
    environment = in_image() | written(name, PASSWORD)
    ours = {key: value for key, value in environment.items() if key.startswith(PREFIX)}
    settings = load_settings(ours)
    assert settings.host == "0.0.0.0" and settings.data_dir == Path("/data") and settings.port == 3338
    assert "command" not in SERVICES[name] and "entrypoint" not in SERVICES[name]
    assert instruction("ENTRYPOINT") + instruction("CMD") == ["pennypost", "up"]
    ports = [each.rpartition(":")[2] for each in SERVICES[name]["ports"]]
    assert set(ports) <= {"3338"} and re.search(r"^EXPOSE 3338$", FINAL, re.MULTILINE)
    assert any(each.endswith(":/data") for each in SERVICES[name]["volumes"])


def told(profile: str) -> dict[str, str]:
    """What the head of compose.yaml says to set for a profile."""
    text = (PROJECT / "compose.yaml").read_text()
    (line,) = re.findall(rf"^# +(.+) docker compose .*--profile {profile} ", text, re.MULTILINE)
    return dict(each.split("=", 1) for each in shlex.split(line))


@contextmanager
def started(names: list[str], given: Mapping[str, str], folder: Path, database: str) -> Iterator[dict[str, Server]]:
    """These services, each when those before it are ready, until the block ends."""
    ports = {name: free_port() for name in names}

    def here(value: str) -> str:
        for name, port in ports.items():
            value = value.replace(f"http://{name}:3338", f"http://127.0.0.1:{port}")
        if value.startswith("postgresql://"):
            address = make_url(database).set(drivername="postgresql")
            return address.render_as_string(hide_password=False)
        return value.replace("http://127.0.0.1:3338", f"http://127.0.0.1:{ports['pennypost']}")

    servers: dict[str, Server] = {}
    try:
        for name in names:
            volume = next(each.split(":")[0] for each in SERVICES[name]["volumes"] if each.endswith(":/data"))
            environment = in_image() | written(name, PASSWORD | dict(given))
            own = {"PENNYPOST_DATA_DIR", "PENNYPOST_CASHU_PYTHON", "PATH"}
            settings = {key: here(value) for key, value in environment.items() if key not in own}
            server = servers[name] = Server(folder / volume, port=ports[name])
            server.environment |= settings
            server.start()
            # the image's own check of its health, of this port
            check = [sys.executable, *instruction("HEALTHCHECK")[1:]]
            check[-1] = check[-1].replace("127.0.0.1:3338", f"127.0.0.1:{server.port}")
            assert subprocess.run(check, timeout=30, check=False).returncode == 0, name
        yield servers
    finally:
        for server in servers.values():
            server.end()


def test_apart(empty_postgres_url: str, tmp_path: Path) -> None:
    """As the first lines of compose.yaml say: the mint on PostgreSQL, the office without its keys."""
    names = ["pennypost", "postoffice"]
    assert SERVICES["postoffice"]["profiles"] == ["apart"] and SERVICES["postoffice"]["depends_on"] == ["pennypost"]
    with started(names, told("apart"), tmp_path, empty_postgres_url) as servers:
        mint, office = servers["pennypost"], servers["postoffice"]
        with httpx.Client(trust_env=False, timeout=60) as http:
            document = http.get(office.url, headers={"accept": "application/nostr+json"}).json()
            assert document["fees"]["publication"][0]["method"]["Cashu"]["mints"] == [mint.url]
            assert http.get(f"{mint.url}/v1/keys").json()["keysets"]
            assert (
                http.get(f"{office.url}/v1/keys").status_code == http.get(f"{mint.url}/v1/headers").status_code == 404
            )
    assert not (tmp_path / "office" / "data" / "mint.seed").exists()
    assert (tmp_path / "data" / "data" / "mint.seed").exists()


def test_several(empty_postgres_url: str, tmp_path: Path) -> None:
    """Two processes with one seed and one database that hear each other by NATS."""
    nats = Nats()
    nats.start()
    try:
        assert SERVICES["second"]["profiles"] == SERVICES["nats"]["profiles"] == ["several"]
        given = told("several")
        assert given["PENNYPOST_BUS_URL"] == "nats://nats:4222"
        given |= {"PENNYPOST_BUS_URL": nats.url}
        with started(["pennypost", "second"], given, tmp_path, empty_postgres_url) as servers:
            with httpx.Client(trust_env=False, timeout=60) as http:
                keys = [http.get(f"{server.url}/v1/keys").json() for server in servers.values()]
                assert keys[0] == keys[1] and keys[0]["keysets"]
                texts = [_metrics(http, server) for server in servers.values()]
            for text in texts:
                assert "pennypost_office_bus_up 1.0" in text and "pennypost_office_bus_peers 1.0" in text
    finally:
        nats.kill()


def _metrics(http: httpx.Client, server: Server) -> str:
    """Once it has heard of the other one; it says so within seconds."""
    deadline = time.monotonic() + 60
    while True:
        text = http.get(f"{server.url}/metrics").text
        if "pennypost_office_bus_peers 1.0" in text or time.monotonic() > deadline:
            return text
        time.sleep(0.05)
