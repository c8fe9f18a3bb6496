"""What the commands share: the options every one has, and one way to print a result."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console
from rich.progress import Progress, track

from gridpost.errors import ConfigInvalid

from ..config import Config

if TYPE_CHECKING:
    from ..store import SqlStore
    from ..store.engine import Summary

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


def typed(check: Callable[[str], object]) -> Callable[[click.Context, click.Parameter, str], str]:
    """Return a click callback that turns what `check` calls ConfigInvalid into a wrong command line, exit 2."""

    def callback(context: click.Context, parameter: click.Parameter, value: str) -> str:
        try:
            check(value)
        except ConfigInvalid as error:
            raise click.BadParameter(error.reason, context, parameter) from None
        return value

    return callback


def done(as_json: bool, result: dict[str, Any], text: str) -> None:
    """Print a command's result: the object, or the text a person reads."""
    sys.stdout.write(json.dumps(result) + "\n" if as_json else text + "\n")
    sys.stdout.flush()


@contextmanager
def opened(config: Config) -> Iterator[SqlStore]:
    """Open the store beside a running bus, for one administration command."""
    from ..store import open_store  # here, so that commands without a store start without its libraries

    store = open_store(config.database, now_utc_ms)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Lend a progress bar on standard error, where that is a terminal: call it with how much is done, of how much."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task(what)
        yield lambda so_far, whole: shown.update(task, completed=so_far, total=whole)


def say_copy(summary: Summary) -> tuple[dict[str, Any], str]:
    """Return what a backup holds, as an object and as text; its heads are what later receipts and proofs go back to."""
    heads = [{"partition": one.partition, "entries": one.size, "root": one.root.hex()} for one in summary.heads]
    result: dict[str, Any] = {
        "file": str(summary.file),
        "bytes": summary.octets,
        "schema": summary.schema,
        "entries": sum(one.size for one in summary.heads),
        "heads": heads,
        "replaced": None if summary.replaced is None else str(summary.replaced),
    }
    lines = [f"{summary.file}: {result['entries']} entries, {summary.octets} bytes, schema {summary.schema}"]
    lines += ["partition {partition}: {entries} entries, root {root}".format(**head) for head in heads]
    lines += [f"the store before it is kept as {summary.replaced}"] * (summary.replaced is not None)
    return result, "\n".join(lines)


def now_utc_ms() -> int:
    """Return the wall clock in UTC milliseconds: commands have no other."""
    return time.time_ns() // 1_000_000


def progress(items: Sequence[T], what: str) -> Iterator[T]:
    """Yield the items under a progress bar on standard error, where that is a terminal."""
    console = Console(stderr=True)
    yield from track(items, description=what, console=console, transient=True, disable=not console.is_terminal)


def console() -> Console:
    """Return standard error for progress bars; silent where it is no terminal."""
    shown = Console(stderr=True)
    return shown if shown.is_terminal else Console(stderr=True, quiet=True)


def say_losses(subject: str, losses: Sequence[str]) -> None:
    """Tell on standard error what a format could not hold: the first few, and how many more."""
    for loss in losses[:SHOWN]:
        print(f"{subject}: {loss}", file=sys.stderr)
    if len(losses) > SHOWN:
        print(f"{subject}: and {len(losses) - SHOWN} more", file=sys.stderr)
