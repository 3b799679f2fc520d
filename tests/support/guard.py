"""What is started for tests ends with them, also when the test run itself is killed."""

from __future__ import annotations

import subprocess


class Guard:
    """Runs `command` as soon as this process is gone, however it ended; `dismiss` calls it off.

    A shell waits for the end of a pipe whose other end is ours alone: the kernel closes it whatever happens.
    """

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            ["sh", "-c", 'read -r _; exec "$@"', "guard", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """Ends the watch; the command is not run."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
