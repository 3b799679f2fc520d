"""The tutorials run, one for each use case, in the sandbox and against a server process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import Server, clean_environment

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial"
SAID = {
    "letters.py": "accepted: True stamps: 1\nTrue meet at nine\n9 stamps left\n",
    "channels.py": "News True meet at nine\nNews True meet at nine\n['without Carol'] []\n",
    "paid_messages.py": "asked for an invoice: a question on charts\npaid 21 sat\n"
    "Which signal do you see? – with 21 sat\n",
    "notice.py": "True 10 sat\nhello Bob\n",
    "sessions.py": "met Bob: True\n['the first']\n['and back']\n['number 0', 'number 1', 'number 2']\nagain: []\n",
    "offers.py": "audit, October for 500 sat\nThe audit: rotate your keys.\nsettled: 1\n",
}


@pytest.mark.parametrize("where", ["sandbox", "server"])
@pytest.mark.parametrize("name", SAID)
def test_tutorial(name: str, where: str, request: pytest.FixtureRequest) -> None:
    given: list[str] = []
    if where == "server":
        server: Server = request.getfixturevalue("server")
        given = [server.url]
    done = subprocess.run(
        [sys.executable, TUTORIAL / name, *given], env=clean_environment(), capture_output=True, text=True, timeout=90
    )
    assert (done.returncode, sorted(done.stdout.splitlines())) == (0, sorted(SAID[name].splitlines())), done.stderr
