"""gridpost: the bus's commands. One file a noun in `commands/`, loaded only when named.

So `convert`, `validate` and `--help` start without Twisted, the store or zeep. An error of ours is one line with its
stable code and what to do; exit 1. A wrong command line is click's; exit 2.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import NamedTuple

import click

from gridpost.errors import GridpostError, as_object, explained, of_os


class Entry(NamedTuple):
    """Where a command lives, and its one line in --help (so that help needs no import)."""

    module: str
    summary: str


COMMANDS: Mapping[str, Entry] = {
    "init": Entry("init", "Write a new bus's configuration, keys and database."),
    "serve": Entry("serve", "Run the bus."),
    "status": Entry("status", "Count what the bus holds and show how far each reader is."),
    "dead-letters": Entry("dead_letters", "List what could not be written or delivered, and try it again."),
    "migrate": Entry("migrate", "Bring the store's schema up, or back down."),
    "backup": Entry("backup", "Copy the store, beside a running bus."),
    "restore": Entry("restore", "Put a backup in the store's place."),
    "bus": Entry("bus", "Give the bus its next key."),
    "ied": Entry("ied", "Enrol, list, show and revoke devices."),
    "partner": Entry("partner", "Make offices known, and say what they may see."),
    "doctor": Entry("doctor", "Look for what is wrong between the bus and a partner, and say what to change."),
    "control": Entry("control", "List, release, hold and delete commands to devices; say what they reach."),
    "crl": Entry("crl", "Make, import, list and write lists of revoked certificates."),
    "rules": Entry("rules", "Print the rules of validation and estimation, or check a file of them; needs no bus."),
    "check-readings": Entry("check_readings", "Hold a meter's readings against the rules."),
    "completeness": Entry("completeness", "Count the intervals a meter has and lacks; certify it, ask for what lacks."),
    "estimate": Entry("estimate", "Give missing intervals estimated values, by the rules."),
    "edit": Entry("edit", "Put values in the place of others, with a reason."),
    "tariff": Entry("tariff", "Put tariffs on file, list, show and export them."),
    "contract": Entry("contract", "Put contracts on file, list, show and end them."),
    "bill": Entry("bill", "Make bills, show what is behind each line, correct them by late readings."),
    "export": Entry("export", "Write files from the store."),
    "log": Entry("log", "Check the log, sign its heads, prove entries, let old evidence go."),
    "watch": Entry("watch", "Watch readings and prices of customers by policies."),
    "compare": Entry("compare", "Compare suppliers on a customer's own intervals, with a picture of the cost by hour."),
    "proof": Entry("proof", "Write the proof of a bill: a file that anybody can check."),
    "report": Entry("report", "Report use and cost, for the user of a contract or its supplier."),
    "convert": Entry("convert", "Convert a file of readings to another format; needs no bus."),
    "validate": Entry("validate", "Check messages and documents against the schemas; needs no bus."),
    "verify": Entry("verify", "Check receipts, tree heads and proof files; needs no bus."),
    "decrypt": Entry("decrypt", "Read the parts of a message that are encrypted for your key; needs no bus."),
}


class LazyGroup(click.Group):
    """A click group over COMMANDS."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = import_module(f".commands.{entry.module}", __package__).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


@click.group(cls=LazyGroup)
@click.version_option(package_name="gridpost")
def group() -> None:
    """Gridpost, the signed post office between meters and the utility's offices."""


def main() -> None:
    """Run the command line; the installed program `gridpost`."""
    try:
        group(prog_name="gridpost")
    except GridpostError as error:
        report(error, as_json="--json" in sys.argv)
        sys.exit(1)
    except OSError as error:
        report(of_os(error), as_json="--json" in sys.argv)
        sys.exit(1)


def report(error: GridpostError, *, as_json: bool = False) -> None:
    """Print an error to standard error: code, reason, what to do, each item on a line.

    Args:
        error: what stopped the command.
        as_json: print one JSON object to standard output besides, for whatever reads the answer there.
    """
    if as_json:
        with suppress(OSError):  # a standard output that is closed or full may be what failed
            print(json.dumps(as_object(error)), flush=True)
    print(explained(error), file=sys.stderr)
