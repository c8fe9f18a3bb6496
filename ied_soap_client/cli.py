"""gridpost-ied: the device's commands.

An error of ours is one line with its stable code and what to do; exit 1. A wrong command line is click's; exit 2.
Everything heavy is imported inside the command that needs it, so that `run` stays small and `--help` quick.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from gridpost.errors import BusUnreachable, ConfigInvalid, GridpostError, of_os

from . import journal

_THERE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)
_JSON = "gridpost.json"  # in the context: whether --json was given, for errors of any command


def _noted(context: click.Context, _parameter: click.Parameter, value: bool) -> bool:
    context.meta[_JSON] = value
    return value


_json = click.option("--json", "as_json", is_flag=True, is_eager=True, callback=_noted, help="Answer in JSON.")
_config = click.option(
    "--config", "file", type=_FILE, default="ied.toml", show_default=True, help="Settings made by 'init'."
)


class _Group(click.Group):
    """Ends every failed command alike: an error line, with --json an object too, and exit 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except GridpostError as error:
            journal.report(error, as_json=ctx.meta.get(_JSON, False))
        except OSError as error:
            if error.errno == errno.EPIPE:  # nobody reads our answer any more; click ends quietly
                raise
            journal.report(of_os(error), as_json=ctx.meta.get(_JSON, False))
        ctx.exit(1)


@click.group(cls=_Group)
@click.version_option(package_name="gridpost")
def group() -> None:
    """Gridpost on the device: measures, seals, pushes, and forgets only what is receipted."""


def main() -> None:
    """Run the command line; the installed program `gridpost-ied`."""
    group(prog_name="gridpost-ied")


def _typed(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Hold an option of `init` against its form: mistyped is a wrong command line, not a wrong configuration."""
    from gridpost import enrolment

    from . import setup

    forms: dict[str | None, Callable[[str], object]] = {
        "url": setup.check_url, "code": enrolment.parse_code, "modbus": setup.host_port,
    }  # fmt: skip
    try:
        if value is not None:
            forms[parameter.name](value)
    except ConfigInvalid as error:
        raise click.BadParameter(error.reason, context, parameter) from None
    return value


def _readers(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[Any, ...]:
    """Read what --for names."""
    from . import sealing

    try:
        return tuple(map(sealing.wanted, values))
    except ConfigInvalid as error:
        raise click.BadParameter(error.reason, context, parameter) from None


@group.command()
@click.option(
    "--bus", "url", required=True, callback=_typed, metavar="URL", help="The bus, such as https://bus.example.org."
)
@click.option("--code", required=True, callback=_typed, metavar="CODE", help="What 'gridpost ied add' printed.")
@click.option("--channels", type=_THERE, help="The channel table given to 'gridpost ied add'.")
@click.option(
    "--modbus", callback=_typed, metavar="HOST:PORT", help="Expect the table's meters there, as units 1, 2, 3 ..."
)
@click.option("--tls-ca", type=_THERE, help="Certificates (PEM) that may vouch for the bus's HTTPS.")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@_json
def init(as_json: bool, folder: Path, **options: Any) -> None:
    """Enrol this device at a bus and write its settings into DIR; again after a failure it goes on."""
    from . import setup

    if options["modbus"] and not options["channels"]:
        raise click.UsageError("--modbus needs --channels, whose meters it places")
    done = asyncio.run(setup.init(folder, setup.Wishes(**options)))
    kept = " were there and stay as they are" if done["kept"] else ""
    journal.answer(done, as_json, "enrolled as {serial}; settings in {config}" + kept)
    for problem in done["contract"]["problems"]:
        click.echo(f"warning[contract]: {problem}", err=True)


@group.command()
@_config
@_json
def run(file: Path, as_json: bool) -> None:
    """Measure and push until stopped (SIGTERM or SIGINT)."""
    from . import running

    running.run(file, journal.Journal(as_json))


@group.command()
@_config
@_json
@click.argument("readings", metavar="FILE.csv", type=click.Path(dir_okay=False, allow_dash=True))
def push(file: Path, as_json: bool, readings: str) -> None:
    """Send the readings of a CSV file (-: standard input) through the spool."""
    from . import running

    _finish(running.push(file, _input(readings), journal.Journal(as_json, quiet=True), _bar), as_json)


@group.command()
@_config
@_json
@click.option("--out", type=_FILE, required=True, metavar="MESSAGE.xml", help="Where the signed message goes.")
@click.option(
    "--for",
    "readers",
    multiple=True,
    callback=_readers,
    metavar="READER.pem=KIND[,KIND]",
    help="Encrypt: only this certificate or public key reads this kind (billing, power-quality). May be repeated;"
    " those of [[reader]] unless given.",
)
@click.argument("readings", metavar="FILE.csv", type=click.Path(dir_okay=False, allow_dash=True))
def seal(file: Path, as_json: bool, out: Path, readers: tuple[Any, ...], readings: str) -> None:
    """Write the readings of a CSV file as one signed message, for another way of transport."""
    from . import running, sealing

    done = running.seal(file, _input(readings), out, _bar, sealing.form_for(readers) if readers else None)
    journal.answer(done, as_json, "sealed {readings} reading(s) as message {message_id} into {out}")


@group.command()
@_config
@_json
def retry(file: Path, as_json: bool) -> None:
    """Send the messages again that the bus had refused, and whatever else waits."""
    from . import running

    _finish(running.retry(file, journal.Journal(as_json, quiet=True), _bar), as_json)


@group.command()
@_config
@_json
def renew(file: Path, as_json: bool) -> None:
    """Make a next key, have the bus certify it by the present one, and use it from then on; 'run' does so in time."""
    from . import running

    journal.answer(running.renew(file), as_json, "{serial} has a new key, good until {ends_at}")


@group.command()
@_config
@_json
def status(file: Path, as_json: bool) -> None:
    """Show what waits, what was refused, and the last receipt."""
    from . import running

    found = running.status(file)
    journal.answer(
        found, as_json,
        "readings waiting {readings_waiting}, messages pending {messages_pending}, refused {messages_refused},"
        " receipts {receipts}",
    )  # fmt: skip
    if not as_json:
        for message in found["messages"]:
            click.echo("".join(f"{line}\n" for line in journal.refused(message)), nl=False)
        if found["last_receipt"]:
            click.echo("last receipt {message_id} at {recorded_at}".format(**found["last_receipt"]))


@group.command()
@_config
@_json
def controls(file: Path, as_json: bool) -> None:
    """Show the commands this device was given and what became of them, newest first."""
    from . import running

    found = running.controls(file)
    text = "{counter:>6} {action} {output} from {issuer} as {role}: {state} {reason}"
    journal.answer(found, as_json, "{waiting} command(s) open, {count} known")
    if not as_json:
        for control in found["controls"]:
            click.echo(" ".join(text.format(**control).split()))


@group.command()
@_config
@_json
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the files.")
def receipts(file: Path, as_json: bool, out: Path) -> None:
    """Write the signed receipts this device holds as files."""
    from . import running

    journal.answer(running.receipts(file, out), as_json, "{receipts} receipt(s) in {out}")


@group.command()
@click.option("--meters", type=click.IntRange(1, 2000), default=1, show_default=True, help="How many.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65000), default=0, help="First port; 0 takes free ones.")
@click.option("--seed", type=int, default=1, show_default=True, help="Same seed, same load.")
@click.option("--speed", type=click.IntRange(1, 100_000), default=1, show_default=True, help="Times real time.")
@_json
def simulate(as_json: bool, **options: Any) -> None:
    """Run SunSpec meters (model 203, Modbus TCP) with a believable load; each meter is a Modbus unit."""
    from .simulator import program

    asyncio.run(program.simulate(program.Wanted(**options), as_json=as_json))


@contextlib.contextmanager
def _bar(what: str, length: int) -> Iterator[Callable[[int], object]]:
    """Lend a progress bar on standard error, where that is a terminal: call it with how much more is done."""
    if not (length and sys.stderr.isatty()):
        yield lambda more: None
        return
    with click.progressbar(length=length, label=what, file=sys.stderr) as shown:
        yield shown.update


def _input(name: str) -> bytes:
    try:
        with click.open_file(name, "rb") as stream:
            content: bytes = stream.read()
            return content
    except OSError as error:
        raise click.BadParameter(f"{name}: {error.strerror}", param_hint="FILE.csv") from None


def _finish(done: dict[str, Any], as_json: bool) -> None:
    problems = done.pop("problems")
    if done["unanswered"]:
        reason = f"{done['unanswered']}; what waits is sent by the next run or push"
        problems.insert(0, {"code": BusUnreachable.code, "reason": reason, "items": []})
    if problems and as_json:
        done["error"] = {name: problems[0][name] for name in ("code", "reason", "items")}
        done["problems"] = problems
    text = "receipted {receipted} message(s), refused {refused}, postponed {postponed}; readings waiting {waiting}"
    journal.answer(done, as_json, text)
    for problem in problems:
        for line in journal.problem(problem):
            click.echo(line, err=True)
    if done["refused"]:
        click.echo("see 'gridpost-ied status', and 'retry' after the cause is gone", err=True)
    if problems:
        sys.exit(1)
