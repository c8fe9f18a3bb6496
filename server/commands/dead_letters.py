"""gridpost dead-letters: what the readers set aside, and the way back."""

from __future__ import annotations

from pathlib import Path

import click

from gridpost.units import format_utc_ms

from .. import config as configuration
from .output import config_option, done, json_option, opened


@click.command("dead-letters")
@click.option("--retry", is_flag=True, help="Let the running bus try all of them again.")
@config_option
@json_option
def command(retry: bool, config_file: Path, as_json: bool) -> None:
    """List the days that could not be written, and files and mails that could not be delivered, with the reasons.

    Mend the cause first. What fails again is listed again.
    """
    with opened(configuration.load(config_file)) as store:
        letters = [
            {
                "reader": one.reader,
                "subject": one.subject,
                "reason": one.reason or "is to be tried again",
                "time": format_utc_ms(one.dead_at_utc_ms),
            }
            for one in store.dead_letters()
        ]
        retried = store.retry_dead_letters() if retry else 0
    lines = ["{time} {reader} {subject}: {reason}".format(**one) for one in letters] or ["no dead letters"]
    lines += [f"{retried} will be tried again"] * retry
    done(as_json, {"dead_letters": letters, "retried": retried}, "\n".join(lines))
