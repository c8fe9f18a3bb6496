"""What the device says to people and machines: one event, one line; answers of commands; errors.

In: names and values. Out: text or JSON lines. Never a key, a code or a reading's whole message; a line that cannot be
written is lost and stops nothing.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from gridpost import units
from gridpost.errors import GridpostError, as_object, explained

from .clockwatch import wall_ms


class Journal:
    """Call it with an event's name and its fields."""

    def __init__(self, as_json: bool, *, quiet: bool = False) -> None:
        """`quiet` sends the journal to standard error, where a command's answer is on standard output."""
        self._as_json, self._stream = as_json, sys.stderr if quiet else sys.stdout
        self._bar = quiet and sys.stderr.isatty()  # a progress bar stands where these lines go

    def __call__(self, event: str, **fields: object) -> None:
        """Write one line; where a progress bar is shown, it tells of each receipt already."""
        if self._bar and event == "receipted":
            return
        time = units.format_utc_ms(wall_ms())
        if self._as_json:
            line = json.dumps({"time": time, "event": event, **fields}, default=str)
        else:
            line = " ".join([time, event, *(f"{name}={_plain(value)}" for name, value in fields.items())])
        with contextlib.suppress(OSError, ValueError):  # a journal nobody reads any more: measuring goes on
            print("\r\x1b[K" + line if self._bar else line, file=self._stream, flush=True)


def _plain(value: object) -> str:
    """Quote what would break the line or pretend to be another field (CWE-117)."""
    text = str(value)
    return text if text.isascii() and text.isprintable() and not set(text) & set(' "=') else json.dumps(text)


def answer(values: Mapping[str, object], as_json: bool, text: str) -> None:
    """Print a command's answer: `values` as JSON, or `text` filled with them."""
    print(json.dumps(values, indent=2, default=str) if as_json else text.format(**values), flush=True)


def report(error: GridpostError, *, as_json: bool = False) -> None:
    """Print an error to standard error: code, reason, each item on a line, what to do.

    Args:
        error: what stopped the command.
        as_json: print one JSON object on one line to standard output besides, for whatever reads the answer there.
    """
    if as_json:
        print(json.dumps(as_object(error)), flush=True)
    print(explained(error), file=sys.stderr)


def problem(told: Mapping[str, Any]) -> list[str]:
    """Return what kept a push from being done as an error's lines; `told` is one of `Drained.problems`."""
    which = f"message {told['message_id']} {told['outcome']}: " if "message_id" in told else ""
    return [f"error[{told['code']}]: {which}{told['reason']}", *findings(told["reason"], told["items"])]


def findings(reason: str, items: Sequence[Mapping[str, str]]) -> list[str]:
    """Return each finding of a refusal as a line: where, what, code; none when there is only what `reason` says."""
    return [
        f"  {item['path'] + ': ' if item['path'] else ''}{item['reason']} [{item['code']}]"
        for item in items
        if (item["path"], item["reason"]) != ("", reason)
    ]


def refused(message: Mapping[str, Any]) -> list[str]:
    """Return a message of the spool's status as lines: what was refused and every finding; none when it just waits."""
    if message["state"] != "refused":
        return []
    head = f"refused {message['message_id']} [{message['code']}]: {message['reason']}"
    return [head, *findings(message["reason"], message["items"])]
