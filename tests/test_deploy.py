"""examples/deploy: what the units and the container start is installed and takes these options."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path, PurePath

import click
import pytest
from gridpost.ied_soap_client import cli as ied_cli
from gridpost.server import cli as bus_cli

DEPLOY = Path(__file__).parent.parent / "examples" / "deploy"
PROGRAMS = {"gridpost": bus_cli.group, "gridpost-ied": ied_cli.group}
UNITS = sorted(DEPLOY.glob("*.service"))


def unit(file):
    parser = configparser.ConfigParser(strict=True, interpolation=None, delimiters=("=",))
    parser.optionxform = str
    parser.read_string(file.read_text(encoding="ascii"))
    return parser


def check_command(words):
    """Hold a command line against the program's own commands and options."""
    group = PROGRAMS[PurePath(words[0]).name]
    command = group.get_command(click.Context(group), words[1])
    assert command is not None, words
    known = {name for one in command.params for name in one.opts}
    assert {word for word in words[2:] if word.startswith("--")} <= known


@pytest.mark.parametrize("file", UNITS, ids=lambda file: file.name)
def test_a_unit_starts_what_is_installed_and_can_do_little_else(file):
    service = unit(file)["Service"]
    check_command(shlex.split(service["ExecStart"]))
    assert service["User"] not in ("", "root")
    assert (service["NoNewPrivileges"], service["ProtectSystem"]) == ("yes", "strict")
    assert service["CapabilityBoundingSet"] in ("", "CAP_NET_BIND_SERVICE")
    assert re.search(r"--config (\S+)/", service["ExecStart"])[1] == service["ReadWritePaths"]


def test_both_programs_have_a_unit():
    assert {file.stem for file in UNITS} == set(PROGRAMS)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="wants systemd")
@pytest.mark.parametrize("file", UNITS, ids=lambda file: file.name)
def test_systemd_knows_every_setting(file):
    done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, check=False, timeout=120)
    assert not re.search(r"Unknown (key|section|lvalue)|Failed to parse|Invalid", done.stderr), done.stderr


def test_the_container_starts_what_is_installed():
    text = (DEPLOY / "Containerfile").read_text(encoding="ascii")
    entry, arguments = (json.loads(re.search(rf"(?m)^{word} (\[.*\])$", text)[1]) for word in ("ENTRYPOINT", "CMD"))
    check_command([*entry, *arguments])
    assert re.search(r"(?m)^USER (?!root)", text)
