"""Devices with something changed from outside, or several of them in one process.

    changed_ied.py DAMAGE CONFIG...

Each CONFIG is the ied.toml of a device; all run in this process, each an `Agent` of the product with its own spool,
lock and connection, until SIGTERM. DAMAGE is a name of `DAMAGES`, or empty. The product has no switch for any of this:
its parts are replaced before they run, as `changed_bus.py` does for the bus.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

from gridpost.ied_soap_client import acting, running
from gridpost.ied_soap_client import config as settings
from gridpost.ied_soap_client.acting import Acting
from gridpost.ied_soap_client.agent import Agent
from gridpost.ied_soap_client.control_book import ControlBook
from gridpost.ied_soap_client.journal import Journal
from gridpost.ied_soap_client.outputs import Told
from live_bus import BIN


def command(*configs: Path, damage: str = "") -> tuple[str, ...]:
    """The command line of devices in one process: the installed program where there is one, and nothing changed."""
    if len(configs) == 1 and not damage:
        return (str(BIN / "gridpost-ied"), "run", "--config", str(configs[0]), "--json")
    return (sys.executable, __file__, damage, *map(str, configs))


# --- damages ---------------------------------------------------------------------------------------------------------


def act_before_intent() -> None:
    """The intent is written after the act, with the outcome."""
    intended, closed = method(ControlBook, "intend"), method(ControlBook, "close")
    meant: dict[str, int] = {}

    def intend(_self: Any, mrid: str, now_utc_ms: int) -> bool:
        return meant.setdefault(mrid, now_utc_ms) == now_utc_ms

    def close(self: Any, mrid: str, closing: Any) -> bool:
        if mrid in meant:
            intended(self, mrid, meant[mrid])
        return bool(closed(self, mrid, closing))

    replace(ControlBook, "intend", intend)
    replace(ControlBook, "close", close)


def no_seen_counter() -> None:
    """The device forgets which commands it had, and asks from the first one on."""
    taken = method(ControlBook, "take")

    def take(self: Any, control: Any, *rest: Any) -> bool:
        with self._spool.transaction() as db:
            db.execute("DELETE FROM control WHERE mrid = ?", (control.mrid,))
            self._spool.put_meta(db, "control_counter", 0)
        return bool(taken(self, control, *rest))

    replace(ControlBook, "take", take)
    replace(ControlBook, "counter", lambda _self: 0)


def expired_obeyed() -> None:
    """The device does not look at a command's end."""
    judged = method(acting, "judge")
    replace(acting, "judge", lambda control, *rest: judged(control._replace(expires_utc_ms=1 << 42), *rest))


def done_guessed() -> None:
    """What a kill cut short is told as done."""

    def settle(self: Any) -> bool:
        for order in self.book.cut_short():
            self._close(order.control, Told("done", "it will have been"))
        return True

    replace(Acting, "_settle", settle)


DAMAGES = {
    "act-before-intent": act_before_intent,
    "no-seen-counter": no_seen_counter,
    "expired-obeyed": expired_obeyed,
    "done-guessed": done_guessed,
}


def method(owner: Any, name: str) -> Any:
    return getattr(owner, name)


def replace(owner: Any, name: str, by: Any) -> None:
    """Put something in the place of a part that is there: a damage that damages nothing would prove nothing."""
    assert hasattr(owner, name), f"{owner} has no {name}"
    setattr(owner, name, by)


# --- running ---------------------------------------------------------------------------------------------------------


async def run_one(file: Path, journal: Journal) -> None:
    """One device, put together as `gridpost-ied run` does."""
    config = settings.load(file)
    with running._only_one(config.path(config.spool.path)), running._spool(config) as spool:
        async with running._transport(config) as transport:
            await Agent(config, spool, transport, journal).run()


async def run_all(files: list[Path]) -> None:
    """All of them, until SIGTERM."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    journal = Journal(True)
    async with asyncio.TaskGroup() as tasks:
        for file in files:
            tasks.create_task(run_one(file, journal))


def main() -> None:
    """Change what is asked for, then run."""
    damage, *files = sys.argv[1:]
    if damage:
        DAMAGES[damage]()
    try:
        asyncio.run(run_all([Path(file) for file in files]))
    except asyncio.CancelledError:
        print('{"event": "stopped"}', flush=True)


if __name__ == "__main__":
    main()
