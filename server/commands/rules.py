"""gridpost rules: the file of rules with its defaults, and whether a file of them may stand; no store, no bus."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gridpost.applications import rules
from gridpost.errors import ConfigInvalid

from .output import done, json_option


@click.command("rules")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def command(file: Path | None, as_json: bool) -> None:
    """Print the rules of validation and estimation at their defaults, each with its meaning; or check FILE.

    Set quality.rules in gridpost.toml to the file that is to count.
    """
    if file is None:
        text = rules.default_text()
        if as_json:
            done(True, {"order": list(rules.ORDER), "text": text}, "")
        else:
            sys.stdout.write(text)
        return
    try:
        book = rules.parse(file.read_text(encoding="utf-8"), str(file))
    except UnicodeDecodeError as problem:
        raise ConfigInvalid(f"{file}: {problem}") from None
    result = {"file": str(file), "ok": True, "channels": len(book.rows)}
    done(as_json, result, f"{file}: good; {len(book.rows)} rows for channels of their own")
