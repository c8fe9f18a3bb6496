"""Tries mutants: which tests pass over a line, and whether one of them fails when it is damaged. For `mutate.py`.

Everything happens in forked children of one process that has imported the foreign libraries and nothing of Gridpost:

- one child runs the tests under coverage: what each test passes over, how long it takes, which lines and branches none
  takes;
- one child imports and collects the tests; of it a grandchild for each mutant exchanges the code of the one function
  that is damaged, and runs the tests that pass over it, quick ones first, until one fails;
- what is made at import (a table, a pattern, a default) wants a child of its own that imports the damaged module. So
  does what survived in a function that import also runs.

No file is changed. What tests do in processes of their own is neither seen nor damaged.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import importlib.machinery
import os
import pickle
import resource
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import coverage
import hypothesis
import pytest
from mutant_children import fork, in_turn, result_of
from mutants import Mutant, Mutated

ROOT = Path(__file__).parent.parent.parent
LEAST_CPU_S, TIMES_CPU = 20, 10  # of processor time, and how much more than usual
SURVIVED = "survived"
UNHURRIED = [hypothesis.Phase.explicit, hypothesis.Phase.reuse, hypothesis.Phase.generate]


class Target(NamedTuple):
    """A module and the test files that answer for it."""

    file: str
    tests: tuple[str, ...]

    @property
    def module(self) -> str:
        name = self.file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        return name if name.startswith("gridpost") else f"gridpost.{name}"


@dataclass
class Seen:
    """What the tests do with the undamaged module.

    Attributes:
        seconds: of each test.
        by_line: the tests that pass over a line; the empty name stands for the import.
        failed: tests that fail as it is: no mutant can be judged.
        open_lines: lines and branches that no test takes.
        branches: how many there are, and `taken` how many were taken.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    by_line: dict[int, set[str]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    open_lines: list[int] = field(default_factory=list)
    open_branches: list[tuple[int, int]] = field(default_factory=list)
    statements: int = 0
    branches: int = 0

    def over(self, lines: frozenset[int]) -> list[str]:
        """The tests that pass over any of the lines, quick ones first."""
        found = set().union(*(self.by_line.get(line, set()) for line in lines)) - {""}
        return sorted(found, key=lambda test: self.seconds.get(test, 0))

    def at_import(self, lines: frozenset[int]) -> bool:
        return any("" in self.by_line.get(line, ()) for line in lines)


# --- pytest in a child -----------------------------------------------------------------------------------------------


def run_pytest(tests: Sequence[str], folder: Path, plugin: object) -> int:
    """Run pytest as the suite does; hypothesis the same examples each time, and none of them made small."""
    settings = hypothesis.settings
    settings.register_profile("mutants", deadline=None, derandomize=True, database=None, phases=UNHURRIED)
    quiet = [
        "-q",
        "--tb=no",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        f"--basetemp={folder}",
        "--rootdir",
        str(ROOT),
    ]
    os.chdir(ROOT)
    return int(pytest.main([*quiet, "-k", "not postgres", *tests], plugins=[plugin, _Steady()]))


class _Steady:
    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        hypothesis.settings.load_profile("mutants")  # after conftest.py loaded the suite's own


class _Watching:
    """Tells coverage which test runs, and takes the times."""

    def __init__(self, measured: coverage.Coverage) -> None:
        self.measured, self.seen = measured, Seen()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self.measured.switch_context(item.nodeid)
        began = time.process_time()
        result = yield
        self.seen.seconds[item.nodeid] = time.process_time() - began
        self.measured.switch_context("")
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.seen.failed.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.seen.failed.append(report.nodeid)


def see(target: Target, scratch: Path) -> Seen:
    """Run a target's tests under coverage, in a child."""
    seen = result_of(fork(lambda: _seen(target, scratch / "seen"), scratch / "seen"), silence_s=1800)
    if not isinstance(seen, Seen):
        raise SystemExit(f"{target.file}: the tests do not run to their end")
    return seen


def _seen(target: Target, folder: Path) -> Seen:
    path = str(ROOT / target.file)
    measured = coverage.Coverage(data_file=None, branch=True, include=[path], config_file=False)
    measured.start()
    measured.switch_context("")
    plugin = _Watching(measured)
    run_pytest(target.tests, folder, plugin)
    measured.stop()
    seen = plugin.seen
    seen.by_line = {line: set(tests) for line, tests in measured.get_data().contexts_by_lineno(path).items()}
    found = measured._analyze(path)
    seen.open_lines = sorted(found.missing)
    seen.open_branches = [(line, to) for line, ends in found.missing_branch_arcs().items() for to in ends]
    seen.statements, seen.branches = found.numbers.n_statements, found.numbers.n_branches
    return seen


# --- trials ----------------------------------------------------------------------------------------------------------


class Trial(NamedTuple):
    """What became of a mutant: the test that failed, SURVIVED or TIMEOUT."""

    mutant: Mutant
    by: str

    @property
    def survived(self) -> bool:
        return self.by == SURVIVED


def trials(
    target: Target, mutated: Mutated, seen: Seen, chosen: Sequence[Mutant], how: tuple[int, Path]
) -> Iterator[Trial]:
    """Try the chosen mutants of a file; `how`: how many at a time, and a folder for what tests write."""
    workers, scratch = how
    quick = [one for one in chosen if not one.at_import and seen.over(one.lines)]
    again = [one for one in chosen if one not in quick]
    for trial in _from_child(target, mutated, seen, quick, how) if quick else ():
        if trial.survived and seen.at_import(trial.mutant.lines):
            again.append(trial.mutant)
        else:
            yield trial
    works = []
    for number, mutant in enumerate(again):
        tests = _whoever_notices(mutant, mutated, seen)
        if tests:
            works.append((mutant, _importing(target, mutated, mutant, tests, scratch / f"import-{number}")))
        else:
            yield Trial(mutant, SURVIVED)
    for mutant, told in in_turn(works, workers, scratch):
        yield Trial(mutant, told or "import")


def _whoever_notices(mutant: Mutant, mutated: Mutated, seen: Seen) -> dict[str, float]:
    """The tests that pass over the line, or over what reads the name it assigns; all, where only import does.

    All, too, for what a class assigns: its instances are read by names that nothing here tells.
    """
    lines = set(mutant.lines if mutant.function == "<module>" or not mutant.name else seen.by_line)
    lines |= {node.lineno for node in ast.walk(mutated.tree) if isinstance(node, ast.Name) and node.id == mutant.name}
    tests = seen.over(frozenset(lines))
    if not tests and seen.at_import(mutant.lines):
        tests = seen.over(frozenset(seen.by_line))
    return {test: seen.seconds.get(test, 0.0) for test in tests}


def _limit(seconds: float) -> None:
    most = int(time.process_time() + LEAST_CPU_S + TIMES_CPU * seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (most, most + 5))


class _UntilOneFails:
    """Runs only some tests, quick ones first, and ends the process's work at the first that fails."""

    def __init__(self, tests: dict[str, float]) -> None:
        self.tests, self.by = tests, SURVIVED

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        places = {test: place for place, test in enumerate(self.tests)}
        items[:] = sorted((item for item in items if item.nodeid in places), key=lambda item: places[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self.by == SURVIVED:
            self.by = report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.by = report.nodeid


def _importing(
    target: Target, mutated: Mutated, mutant: Mutant, tests: dict[str, float], folder: Path
) -> Callable[[], str]:
    def work() -> str:
        _limit(sum(tests.values()))
        _damage_import(target.module, mutated.code(mutant))
        plugin = _UntilOneFails(tests)
        files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
        code = run_pytest(["-x", *files], folder, plugin)
        return plugin.by if plugin.by != SURVIVED or code == 0 else "import"

    return work


def _damage_import(module: str, code: Any) -> None:
    whole = importlib.machinery.SourceFileLoader.get_code

    def get_code(self: Any, fullname: str) -> Any:
        return code if fullname == module else whole(self, fullname)

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign]


def _from_child(
    target: Target, mutated: Mutated, seen: Seen, chosen: Sequence[Mutant], how: tuple[int, Path]
) -> Iterator[Trial]:
    """Let one child collect the tests and fork for each mutant; it tells of them one by one, through a pipe."""
    reading, writing = os.pipe()

    def work() -> None:
        os.close(reading)
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            run_pytest(target.tests, how[1] / "collected", _Forking(mutated, seen, chosen, how, pipe))

    child = fork(work, how[1] / "collected")
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        for _ in chosen:
            place, by = pickle.load(pipe)
            yield Trial(chosen[place], by)
    result_of(child)


class _Forking:
    """In the place of pytest's loop over the tests: a loop over mutants."""

    def __init__(
        self, mutated: Mutated, seen: Seen, chosen: Sequence[Mutant], how: tuple[int, Path], pipe: Any
    ) -> None:
        self.mutated, self.seen, self.chosen, self.how, self.pipe = mutated, seen, chosen, how, pipe

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        places = {mutant.key: place for place, mutant in enumerate(self.chosen)}
        workers, scratch = self.how
        works = [(mutant, self._trial(mutant, items, scratch / f"one-{at}")) for at, mutant in enumerate(self.chosen)]
        for mutant, told in in_turn(works, workers, scratch / "one"):
            pickle.dump((places[mutant.key], told or "crash"), self.pipe)
        return True

    def _trial(self, mutant: Mutant, items: dict[str, pytest.Item], folder: Path) -> Callable[[], str]:
        def work() -> str:
            tests = [items[test] for test in self.seen.over(mutant.lines) if test in items]
            _limit(sum(self.seen.seconds.get(item.nodeid, 0) for item in tests))
            exchange_code(self.mutated.path, self.mutated.code(mutant))
            folder.mkdir(parents=True)
            if tests:
                tests[0].config._tmp_path_factory._basetemp = folder  # type: ignore[attr-defined]
            return first_failure(tests)

        return work


def first_failure(items: Sequence[pytest.Item]) -> str:
    """Run collected tests; return the first that fails, or SURVIVED."""
    plugin = _UntilOneFails({})
    if items:
        items[0].config.pluginmanager.register(plugin)
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if plugin.by != SURVIVED:
            return plugin.by
    return SURVIVED


def exchange_code(path: str, code: types.CodeType) -> None:
    """Give each function that was made from a file the code of the same name and place in `code`."""
    new = {(one.co_qualname, one.co_firstlineno): one for one in _codes(code)}
    for thing in gc.get_objects():
        if isinstance(thing, types.FunctionType) and thing.__code__.co_filename == path:
            own = thing.__code__
            wanted = new.get((own.co_qualname, own.co_firstlineno))
            if wanted is not None and len(wanted.co_freevars) == len(own.co_freevars):
                thing.__code__ = wanted


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _codes(constant)


def warm() -> None:
    """Import the foreign libraries that tests want, once for all children."""
    for name in (
        "lxml.etree",
        "cryptography.x509",
        "sqlalchemy",
        "signxml",
        "xmlsec",
        "zstandard",
        "xmlschema",
        "click",
    ):
        with contextlib.suppress(ImportError):
            __import__(name)
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 1000))
