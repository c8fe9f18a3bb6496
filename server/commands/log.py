"""gridpost log check | head | heads | prove | export | prune: the log as evidence.

A second process beside a running bus (decision 7). Nothing here changes what the log says; `prune` removes old
messages, whose hashes stay. `prove` and `export` are in log_proofs.py.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

from gridpost.errors import Item, NotFound
from gridpost.units import format_utc_ms

from .. import config as configuration
from .. import log_check
from ..heads import Author, sign_head
from ..identity import load_ca, load_signer, trust_of
from ..store import SqlStore
from ..store.archive import KeptHead
from . import log_proofs
from .files import write_whole
from .output import SHOWN, config_option, console, done, json_option, now_utc_ms, opened

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_AGE = re.compile(r"([0-9]{1,6})d\Z", re.ASCII)


@click.group("log")
def command() -> None:
    """Check the log, sign its heads, prove entries, let old evidence go."""


command.add_command(log_proofs.prove)
command.add_command(log_proofs.export)


# --- check -----------------------------------------------------------------------------------------------------------


@command.command("check")
@click.option(
    "--anchor", "files", type=FILE, multiple=True,
    help="A signed tree head or a receipt that was kept elsewhere; may be given more than once.",
)  # fmt: skip
@config_option
@json_option
def check(files: tuple[Path, ...], config_file: Path, as_json: bool) -> None:
    """Recompute the whole log and name everything that is not as it was recorded.

    A past that was rewritten by somebody with the bus's key shows only against an anchor. Exit status: 0 nothing found,
    1 something found.
    """
    config = configuration.load(config_file)
    trust = trust_of(load_ca(config))
    anchors = [log_proofs.read_file(file, trust) for file in files]
    with opened(config) as store, Progress(console=console(), transient=True) as bars:
        task = bars.add_task("checking", total=None)
        held = log_check.against(store, {one.id: one.key for one in store.channels()}, trust, now_utc_ms())
        result = log_check.check(
            store, held, anchors, lambda walked, total: bars.update(task, completed=walked, total=total)
        )
    done(as_json, _checked(result), _told(result))
    sys.exit(not result.ok)


def _checked(result: log_check.Result) -> dict[str, Any]:
    return {
        "ok": result.ok,
        "partitions": [
            {"partition": one.number, "entries": one.entries, "root": one.root.hex() if one.root else None}
            for one in result.partitions
        ],
        "heads": result.heads,
        "evidence_gone": result.evidence_gone,
        "anchors": [{"anchor": name, "holds": holds} for name, holds in result.anchors.items()],
        "findings": [_finding(one) for one in result.findings],
        "notes": [_finding(one) for one in result.notes],
        "more": result.more,
    }


def _finding(item: Item) -> dict[str, str]:
    return {"code": item.code, "reason": item.reason, "path": item.path}


def _told(result: log_check.Result) -> str:
    lines = [
        f"partition {one.number}: {one.entries} entries, root {one.root.hex() if one.root else 'not known'}"
        for one in result.partitions
    ]
    lines += [f"{name}: {'holds' if holds else 'DOES NOT HOLD'}" for name, holds in result.anchors.items()]
    lines += [f"{one.path}: {one.reason} [{one.code}]" for one in result.findings[:SHOWN]]
    unseen = len(result.findings) + result.more - SHOWN
    if unseen > 0:
        lines.append(f"and {unseen} more; --json lists them")
    lines += [f"note: {one.path}: {one.reason} [{one.code}]" for one in result.notes[:SHOWN]]
    if len(result.notes) > SHOWN:
        lines.append(f"and {len(result.notes) - SHOWN} more notes; --json lists them")
    if result.evidence_gone:
        lines.append(f"{result.evidence_gone} entries whose message is no longer kept")
    if result.ok:
        lines.append("nothing was changed" + ("" if result.anchors else ", as far as can be seen without --anchor"))
    return "\n".join(lines)


# --- heads -----------------------------------------------------------------------------------------------------------


@command.command("head")
@click.option("--partition", type=int, default=0, show_default=True, help="Partition of the log.")
@click.option("--now", "sign_now", is_flag=True, help="Sign a new one and keep it with the others.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the signed head to this file.")
@config_option
@json_option
def head(partition: int, sign_now: bool, out: Path | None, config_file: Path, as_json: bool) -> None:
    """Show a partition's newest signed tree head: keep it elsewhere, and the past cannot be rewritten unseen."""
    config = configuration.load(config_file)
    with opened(config) as store:
        if sign_now:
            found = sign_head(store, Author(config.bus.id, load_signer(config)), partition, now_utc_ms())
        else:
            found = _newest(store, partition)
    if out:
        write_whole(out, found.signed)
    shown = _head(found) | ({"file": str(out)} if out else {})
    done(as_json, shown, "\n".join(f"{name}: {value}" for name, value in shown.items()))


def _newest(store: SqlStore, partition: int) -> KeptHead:
    found = store.newest_head(partition)
    if found is None:
        raise NotFound(f"no tree head of partition {partition} is on file; --now signs one")
    return found


@command.command("heads")
@config_option
@json_option
def heads(config_file: Path, as_json: bool) -> None:
    """List the signed tree heads."""
    with opened(configuration.load(config_file)) as store:
        found = [_head(one) for one in store.heads()]
    if as_json:
        done(True, {"heads": found}, "")
        return
    table = Table("partition", "entries", Column("root", overflow="fold"), "made at")
    for one in found:
        table.add_row(*(str(value) for value in one.values()))
    Console().print(table)


def _head(one: KeptHead) -> dict[str, Any]:
    return {
        "partition": one.partition,
        "entries": one.size,
        "root": one.root.hex(),
        "made_at": format_utc_ms(one.made_at_utc_ms),
    }


# --- prune -----------------------------------------------------------------------------------------------------------


@command.command("prune")
@click.option("--older-than", "age", required=True, help="Age in days, such as 400d, which is the least.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@config_option
@json_option
def prune(age: str, dry_run: bool, config_file: Path, as_json: bool) -> None:
    """Remove the messages of old entries. Header, hashes, receipt and readings stay for ever, and the log still checks.

    An entry whose message is gone can no longer be proved to come from its device: export proofs first.
    """
    days = _days(age)
    before = now_utc_ms() - days * log_check.DAY_MS
    removed = 0
    with opened(configuration.load(config_file)) as store, Progress(console=console(), transient=True) as bars:
        due = store.evidence_due(before)
        task = bars.add_task("removing", total=due.entries)
        for count in store.drop_evidence(before) if not dry_run else ():
            removed += count
            bars.update(task, advance=count)
    text = f"{due.entries} messages recorded before {format_utc_ms(before)}, {due.octets} bytes"
    result = {"before": format_utc_ms(before), "due": due.entries, "bytes": due.octets, "removed": removed}
    done(as_json, result | {"dry_run": dry_run}, f"would remove {text}" if dry_run else f"removed {removed} of {text}")


def _days(age: str) -> int:
    found = _AGE.match(age)
    if found is None or int(found[1]) < log_check.KEPT_DAYS:
        least = f"{log_check.KEPT_DAYS}d or more"
        raise click.BadParameter(f"{age!r} is not a number of days, {least}", param_hint="--older-than")
    return int(found[1])
