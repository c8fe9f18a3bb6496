"""What must become an entry is asked of the running bus, or done under the partition's token when none is (decision 7).

In: a kind of KINDS and its arguments. Out: the outcome, a JSON object, or the error that refused it. A handler belongs
to the room that knows its subject and has one line in KINDS. The entries of a task have message ids made of the task's
id, so that one done again, because a process died over it, finds what was recorded: once.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from functools import partial
from types import MappingProxyType
from typing import Any

from gridpost.errors import (
    GridpostError,
    Internal,
    Item,
    StoreUnavailable,
    UnknownOperation,
    as_object,
    leaves,
)
from gridpost.units import uuid7

from .audit import Audit
from .billing import filing, making
from .config import Config
from .identity import load_signer
from .own import Bench
from .quality import handlers as quality
from .store import SqlStore, Task, open_store
from .store.tasks import ASKED, DONE, REFUSED
from .zones import zone_of

Outcome = dict[str, Any]
Aside = Callable[[Callable[[], Any]], Awaitable[Any]]  # runs a function off the reactor and gives what it returns
Handler = Callable[[Bench, Mapping[str, Any], str, str], Outcome]  # bench, args, person, task id

# kind -> what does it.
KINDS: Mapping[str, Handler] = MappingProxyType(
    {
        "estimate": quality.estimate,
        "edit": quality.edit,
        "mark": quality.mark,
        "certificate": quality.certify,
        "request-data": quality.request,
        "tariffs": filing.add_tariffs,
        "contract": filing.add_contract,
        "contract-end": filing.end_contract,
        "bill": making.make,
        "bill-correction": making.correct,
    }
)

LOOK_S = 0.5  # how often the bus looks whether it is asked something
_AT_ONCE = 20  # tasks of one look
_TAKE_S, _WAIT_S = 1.0, 0.05  # between two tries to serve the store, and two looks at the outcome
LONGEST_S = 600


def ask(config: Config, kind: str, args: Mapping[str, Any], person: str, *, longest_s: int = LONGEST_S) -> Outcome:
    """Have something done that becomes an entry, and return what came of it.

    Args:
        config: of the bus.
        kind: a name of KINDS.
        args: JSON.
        person: who asks.
        longest_s: how long to wait for the running bus.

    Raises:
        GridpostError: it was refused, or the bus did not come to it in time.
    """
    with closing(open_store(config.database, _now_utc_ms)) as store:
        now = _now_utc_ms()
        asked = Task(uuid7(now, os.urandom(10)), kind, json.dumps(args), person, now)
        store.put_task(asked)
        ends_s, take_s = time.monotonic() + longest_s, 0.0
        while time.monotonic() < ends_s:
            if (found := store.task(asked.id)) is not None and found.state != ASKED:
                return _outcome(found)
            if time.monotonic() >= take_s:
                take_s = time.monotonic() + _TAKE_S
                _serve(config, asked)
            else:
                time.sleep(_WAIT_S)
    raise StoreUnavailable(f"the running bus has not done it within {longest_s} s; it will: look again later")


def perform(bench: Bench, one: Task) -> None:
    """Do a task and say what came of it; one that is done again, because a process died over it, changes nothing.

    Raises:
        StoreUnavailable: nothing can be kept now; the task stays asked.
    """
    try:
        handler = KINDS.get(one.kind)
        if handler is None:
            raise UnknownOperation(f"there is no task {one.kind!r}")
        state, outcome = DONE, handler(bench, json.loads(one.args), one.person, one.id)
    except GridpostError as refused:
        state, outcome = REFUSED, as_object(refused)
    except Exception:
        # A defect: told to who asked, and raised; left asked it would come back twice a second for ever.
        bench.store.settle_task(one.id, REFUSED, json.dumps(as_object(Internal())))
        raise
    bench.store.settle_task(one.id, state, json.dumps(outcome))


async def follow(bench: Bench, aside: Aside, audit: Audit) -> None:
    """Do what is asked now, oldest first, each in a step aside: the running bus's look."""
    for one in await aside(lambda: bench.store.asked_tasks(_AT_ONCE)):
        await aside(partial(perform, bench, one))
        audit.event("task", id=one.id, kind=one.kind, person=one.person)


def _serve(config: Config, one: Task) -> None:
    """Do a task ourselves if no process serves the store, and before it what others asked and died over."""
    with closing(open_store(config.database, _now_utc_ms)) as led:
        if led.is_led():
            return
        try:
            store = open_store(config.database, _now_utc_ms, serve=True)
        except StoreUnavailable:
            return  # a process serves it, or it fails: then nobody does the task, and that is told in the end
        with closing(store):
            _perform_to(bench_of(config, store), one)


def _perform_to(bench: Bench, last: Task) -> None:
    """Do what is asked, oldest first, until a task is done."""
    while (found := bench.store.task(last.id)) is not None and found.state == ASKED:
        for each in bench.store.asked_tasks(_AT_ONCE):
            perform(bench, each)


def bench_of(config: Config, store: SqlStore) -> Bench:
    """Return a bench on a store that this process serves, for commands.

    Raises:
        NotFound, ConfigInvalid: the bus's key cannot be read.
    """
    return Bench(store, load_signer(config), config.bus.id, _now_utc_ms, zone_of, config)


def _outcome(done: Task) -> Outcome:
    found: Outcome = json.loads(done.outcome)
    if done.state == DONE:
        return found
    told = found["error"]
    leaf = next((one for one in leaves() if one.code == told["code"]), Internal)
    raise leaf(told["reason"], items=[Item(**item) for item in told["items"]])


def _now_utc_ms() -> int:
    return time.time_ns() // 1_000_000
