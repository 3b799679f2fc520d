"""`pennypost completion`: what a shell needs to complete our commands and options."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print the completion of a shell, to be read by it at its start. Nothing is installed or changed.

    Examples:

      pennypost completion bash >> ~/.bashrc
      pennypost completion zsh > ~/.zfunc/_pennypost
      pennypost completion fish > ~/.config/fish/completions/pennypost.fish
    """
    from pennypost.cli import app

    # The way in which Typer is asked for it; it prints and ends the process.
    os.environ["_PENNYPOST_COMPLETE"] = f"source_{shell}"
    try:
        app(args=[], prog_name="pennypost")
    finally:
        del os.environ["_PENNYPOST_COMPLETE"]
