"""Types the commands of examples/office/README.md, in their order, in a fresh folder, with ports of its own.

A block that is one command which stays up is started and left running; what it says can be waited for. Blocks that
begin with ``php`` are typed only when asked for: the suite leaves them out, `tests/interop/check_office_walk.py`
does not.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "examples/office/README.md").read_text(encoding="utf-8"), re.DOTALL)
STAYS = ("gridpost serve ", "gridpost-ied simulate ", "gridpost-ied run ")
# What a command that stays up says when the next one may be typed.
READY = {"gridpost serve ": "/utility", "gridpost-ied simulate ": "SIM00001 at", "gridpost-ied run ": ""}
PORTS = ("8080", "8444", "5020")
SECONDS = 120


@dataclass
class Walk:
    """What was typed, and what it said."""

    folder: Path
    said: dict[str, str] = field(default_factory=dict)  # first line of a block -> its standard output
    running: dict[str, Running] = field(default_factory=dict)  # first words of a command -> the command


class Running:
    """A command that stays up; its lines are read by a thread, so that it is never held up."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self.lines, self.seen = process, queue.Queue(), []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.put(line)

    def until(self, text: str) -> None:
        """Read on until a line holds a text."""
        while not any(text in line for line in self.seen):
            self.seen.append(self.lines.get(timeout=SECONDS))


@contextmanager
def walk(folder: Path, *, php: bool):
    """Type all blocks, and yield what they said while the commands that stay up still run."""
    ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
    shutil.copytree(ROOT / "examples", folder / "examples")
    for file in (folder / "examples/office").iterdir():
        if file.is_file():
            file.write_text(_moved(file.read_text(encoding="utf-8"), ports), encoding="utf-8")
    made = Walk(folder / "walk")
    made.folder.mkdir()
    with ExitStack() as stack:
        for block in BLOCKS:
            if php or not block.startswith("php "):
                _type(_moved(block, ports), made, stack)
        yield made


def _type(block: str, made: Walk, stack: ExitStack) -> None:
    stays = next((words for words in STAYS if block.startswith(words)), None)
    if stays is None:
        made.said[block.splitlines()[0]] = _run(block, made.folder)
        return
    process = stack.enter_context(
        subprocess.Popen(
            block.split(),
            cwd=made.folder,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    )
    stack.callback(process.kill)
    made.running[stays] = Running(process)
    made.running[stays].until(READY[stays])


def _run(block: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder, env=_environment(), capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _moved(text: str, ports: dict[str, str]) -> str:
    return re.sub(rf"\b({'|'.join(PORTS)})\b", lambda found: ports[found[1]], text)


def _free_ports(count: int) -> list[str]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [str(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return found


def _environment() -> dict[str, str]:
    here = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": os.pathsep.join([here, os.environ["PATH"]]), "COLUMNS": "120"}
