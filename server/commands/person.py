"""The option that says who decides, for the commands whose doing stands in the log with a name."""

from __future__ import annotations

import getpass

import click

from ..controls.persons import check_person
from .output import typed

person_option = click.option(
    "--person", default=getpass.getuser, show_default="who is logged in", callback=typed(check_person),
    help="Who decides; it stands beside what comes of it for ever.",
)  # fmt: skip
