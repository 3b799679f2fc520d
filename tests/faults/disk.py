"""A disk of a few megabytes that a test can fill: tmpfs, where this machine allows it to be mounted."""

from __future__ import annotations

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

BLOCK = b"\0" * 65_536


class SmallDisk:
    """Mounted from `__enter__` to `__exit__`. Raises OSError where that is not allowed."""

    def __init__(self, mebibytes: int) -> None:
        self._size = mebibytes
        self.folder = Path()

    def __enter__(self) -> SmallDisk:
        self.folder = Path(tempfile.mkdtemp(prefix="pennypost-disk-"))
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={self._size}m", "tmpfs", self.folder], capture_output=True
        )
        if done.returncode:
            self.folder.rmdir()
            raise OSError("mount is not allowed here")
        # whoever's it becomes must reach it
        self.folder.chmod(0o755)
        return self

    def __exit__(self, *error: object) -> None:
        subprocess.run(["umount", "-l", self.folder], check=True)
        self.folder.rmdir()

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self) -> None:
        """Not one more page can be written."""
        with self._ballast.open("ab", buffering=0) as file:
            try:
                while file.write(BLOCK) == len(BLOCK):
                    pass
            except OSError:
                return

    def free(self) -> None:
        """There is room again."""
        os.unlink(self._ballast)


@cache
def can_mount() -> bool:
    """Whether this machine lets us."""
    try:
        with SmallDisk(1):
            return True
    except OSError:
        return False


@cache
def can_lock() -> bool:
    """Whether files can be made immutable, which stops root too."""
    with tempfile.NamedTemporaryFile() as file:
        done = subprocess.run(["chattr", "+i", file.name], capture_output=True)
        subprocess.run(["chattr", "-i", file.name], capture_output=True)
        return done.returncode == 0
