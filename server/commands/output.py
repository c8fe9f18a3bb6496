"""What the commands share: the options every one has, and one way to print a result."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import track

from ..config import Config
from ..store import SqlStore, open_store

SHOWN = 20
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    """Add --json: one JSON object on standard output instead of text."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(function)


def config_option(function: F) -> F:
    """Add --config, the bus's gridpost.toml."""
    return click.option(
        "--config", "config_file", type=click.Path(path_type=Path), default=Path("gridpost.toml"), show_default=True,
        help="The bus's configuration file.",
    )(function)  # fmt: skip


def done(as_json: bool, result: dict[str, Any], text: str) -> None:
    """Print a command's result: the object, or the text a person reads."""
    sys.stdout.write(json.dumps(result) + "\n" if as_json else text + "\n")
    sys.stdout.flush()


@contextmanager
def opened(config: Config) -> Iterator[SqlStore]:
    """Open the store beside a running bus, for one administration command."""
    store = open_store(config.path(config.bus.database), now_utc_ms)
    try:
        yield store
    finally:
        store.close()


def now_utc_ms() -> int:
    """Return the wall clock in UTC milliseconds: commands have no other."""
    return time.time_ns() // 1_000_000


def progress(items: Sequence[T], what: str) -> Iterator[T]:
    """Yield the items under a progress bar on standard error, where that is a terminal."""
    console = Console(stderr=True)
    yield from track(items, description=what, console=console, transient=True, disable=not console.is_terminal)


def say_losses(subject: str, losses: Sequence[str]) -> None:
    """Tell on standard error what a format could not hold: the first few, and how many more."""
    for loss in losses[:SHOWN]:
        print(f"{subject}: {loss}", file=sys.stderr)
    if len(losses) > SHOWN:
        print(f"{subject}: and {len(losses) - SHOWN} more", file=sys.stderr)
