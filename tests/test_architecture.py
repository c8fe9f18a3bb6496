"""DESIGN's import rules and size budgets, read from the syntax trees: the house stays as it was drawn."""

import ast
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
RINGS = ("server", "ied_soap_client", "adapters")
ROOMS = ("gridpost", *RINGS)

# DESIGN section 2: a module of the core imports lower floors only.
FLOORS = {
    "__init__": 0, "conditions": 0, "controls": 0, "documents": 0, "ns": 0, "faults": 0, "errors": 0, "units": 0,
    "tariff": 1, "supply": 1, "supply_messages": 2, "comparison_messages": 5, "completeness_messages": 6,
    "tariff_check": 2, "tariff_encoding": 2, "tariff_messages": 2,
    "canonical_json": 1, "zone_offsets": 1,
    "codes": 1, "model": 1, "requests": 1, "schemas": 1, "settings": 1, "cells": 1, "tabular": 1, "merkle": 1,
    "partners": 1,
    "envelope": 2, "encoding": 2, "messages": 2, "answers": 2, "heads": 2, "enrolment": 2, "leaf": 2, "versions": 2,
    "encryption": 2, "encrypted_readings": 2,
    "findings": 2, "asking": 2, "control_messages": 2, "document_messages": 2,
    "office_messages": 2, "meter_config_messages": 2,
    "wssecurity": 3, "ports": 3, "parts": 3, "unsigned": 3,
    "current": 4, "recogniser": 4, "renewal": 4, "exchange": 4, "check": 4, "log": 4,
    "calendar": 4, "series": 4, "layout": 4, "determinants": 4, "charges": 4, "bills": 4,
    "comparison": 4, "limits": 4, "rules": 4, "stands": 4,
    "hourly": 4, "realtime": 4,
    "validation": 5, "estimation": 5, "editing": 5, "completeness": 5,
    "bill_document": 5, "contract": 5, "evidence": 5, "testing": 5, "testing_store": 5,
    "proof": 6, "bill_work": 6, "bill_check": 7, "bill_proof": 8,
}  # fmt: skip
# Stairs within a floor, each with its reason in docs/adr/0002.
SAME_FLOOR = {
    ("units", "errors"),
    ("errors", "faults"),
    ("model", "codes"),
    ("requests", "model"),
    ("tabular", "cells"),
    ("tabular", "model"),
    ("messages", "encoding"),
    ("messages", "encrypted_readings"),
    ("encrypted_readings", "encryption"),
    ("encrypted_readings", "encoding"),
    ("encrypted_readings", "envelope"),
    ("encryption", "encoding"),
    ("encryption", "envelope"),
    ("messages", "envelope"),
    ("messages", "findings"),
    ("messages", "control_messages"),
    ("findings", "envelope"),
    ("asking", "encoding"),
    ("asking", "envelope"),
    ("asking", "findings"),
    ("document_messages", "encoding"),
    ("document_messages", "envelope"),
    ("document_messages", "findings"),
    ("messages", "document_messages"),
    ("messages", "meter_config_messages"),
    ("messages", "office_messages"),
    ("office_messages", "answers"),
    ("office_messages", "asking"),
    ("office_messages", "encoding"),
    ("office_messages", "envelope"),
    ("office_messages", "findings"),
    ("office_messages", "meter_config_messages"),
    ("meter_config_messages", "asking"),
    ("meter_config_messages", "encoding"),
    ("meter_config_messages", "envelope"),
    ("meter_config_messages", "findings"),
    ("control_messages", "answers"),
    ("control_messages", "asking"),
    ("control_messages", "encoding"),
    ("control_messages", "envelope"),
    ("control_messages", "findings"),
    ("answers", "encoding"),
    ("answers", "envelope"),
    ("supply", "model"),
    ("supply", "tariff"),
    ("supply_messages", "answers"),
    ("supply_messages", "asking"),
    ("supply_messages", "encoding"),
    ("supply_messages", "envelope"),
    ("supply_messages", "findings"),
    ("supply_messages", "office_messages"),
    ("supply_messages", "tariff_messages"),
    ("messages", "supply_messages"),
    ("tariff_encoding", "encoding"),
    ("tariff_encoding", "tariff_check"),
    ("tariff_messages", "envelope"),
    ("tariff_messages", "tariff_check"),
    ("tariff_messages", "tariff_encoding"),
    ("heads", "encoding"),
    ("heads", "envelope"),
    ("wssecurity", "ports"),
    ("check", "exchange"),
    ("exchange", "recogniser"),
    ("series", "calendar"),
    ("layout", "calendar"),
    ("determinants", "calendar"),
    ("determinants", "layout"),
    ("determinants", "series"),
    ("charges", "determinants"),
    ("bills", "charges"),
    ("bills", "determinants"),
    ("comparison", "calendar"),
    ("comparison", "charges"),
    ("comparison", "determinants"),
    ("comparison", "series"),
    ("tariff_encoding", "encoding"),
    ("tariff_encoding", "tariff_check"),
    ("tariff_messages", "envelope"),
    ("tariff_messages", "tariff_check"),
    ("tariff_messages", "tariff_encoding"),
    ("hourly", "calendar"),
    ("hourly", "charges"),
    ("hourly", "determinants"),
    ("hourly", "series"),
    ("realtime", "calendar"),
    ("realtime", "determinants"),
    ("realtime", "series"),
}
# The standard library as far as it is pure; sockets, clocks, files, random and threads belong to a ring.
PURE = {
    "__future__", "base64", "binascii", "bisect", "collections", "csv", "dataclasses", "datetime", "decimal", "enum",
    "functools", "hashlib", "hmac", "io", "itertools", "json", "math", "operator", "re", "string", "struct", "tomllib",
    "types", "typing",
}  # fmt: skip
STATED = {
    ("schemas", "importlib"),  # finds the packaged schemas
    ("schemas", "threading"),  # threading.local: an lxml schema must not be shared between threads
    ("envelope", "ctypes"),  # lets go of the names lxml keeps for ever; no call in or out of the process
    ("envelope", "threading"),  # threading.local: lxml keeps them by thread
    ("ports", "concurrent"),  # Future is how the writer's answer is typed
    ("testing_store", "concurrent"),
    ("testing_store", "threading"),  # a fake of the store behaves as the store does
}
CORE_LIBRARIES = {"lxml", "cryptography"}

# DESIGN 3.1 and decision 26: each foreign library has one home. A path that ends in / is a folder.
HOMES = {
    "spyne": ("server/soap.py", "server/spyne_compat.py"),
    "sqlalchemy": ("server/store/",),
    "alembic": ("server/store/",),
    "zstandard": ("server/store/",),
    "twisted": ("server/",),
    "OpenSSL": ("server/",),
    "service_identity": ("server/",),
    "httptools": ("server/transports/device_http.py",),
    "prometheus_client": ("server/metrics.py",),
    "xmlschema": ("server/commands/validate.py",),
    "signxml": ("server/independent.py",),
    "pymodbus": ("ied_soap_client/modbus.py", "ied_soap_client/simulator/"),
    "httpx": ("ied_soap_client/transport.py",),
    "zeep": ("ied_soap_client/contract.py", "adapters/soap_call.py"),
    "requests": ("adapters/soap_call.py",),
    "urllib3": ("adapters/soap_call.py",),
    "click": ("server/cli.py", "server/commands/", "ied_soap_client/cli.py", "ied_soap_client/commands/"),
    "rich": ("server/cli.py", "server/commands/", "ied_soap_client/cli.py", "ied_soap_client/commands/"),
    "lxml": ("gridpost/", "server/"),
    "cryptography": ("gridpost/", "server/", "ied_soap_client/"),
}

FILE_LINES, FUNCTION_LINES, PARAMETERS, NESTING = 400, 60, 5, 3
MEDIAN, NINE_IN_TEN = 8, 25

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Source(NamedTuple):
    path: str
    text: str
    tree: ast.Module


class Import(NamedTuple):
    level: int
    module: str
    names: tuple[str, ...]
    line: int


def _sources() -> list[Source]:
    files = [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]
    texts = [(file, file.read_text(encoding="utf-8")) for file in files]
    return [Source(file.relative_to(ROOT).as_posix(), text, ast.parse(text)) for file, text in texts]


SOURCES = _sources()


def _imports(tree: ast.AST) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(0, alias.name, (), node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield Import(node.level, node.module or "", tuple(alias.name for alias in node.names), node.lineno)


def _functions(tree: ast.AST) -> Iterator[Function]:
    yield from (node for node in ast.walk(tree) if isinstance(node, Function))


def _core() -> list[Source]:
    return [source for source in SOURCES if source.path.startswith("gridpost/")]


def _in(path: str, homes: tuple[str, ...]) -> bool:
    return any(path.startswith(home) if home.endswith("/") else path == home for home in homes)


# --- imports ---------------------------------------------------------------------------------------------------------


def test_the_rooms_were_found():
    assert len(SOURCES) > 60
    assert {source.path.split("/")[0] for source in SOURCES} == set(ROOMS)


def test_the_core_imports_pure_modules_only():
    found = []
    for source in _core():
        stem = Path(source.path).stem
        for item in _imports(source.tree):
            top = item.module.split(".")[0]
            if item.level == 0 and top not in PURE | CORE_LIBRARIES and (stem, top) not in STATED:
                found.append(f"{source.path}:{item.line}: {item.module}")
    assert found == []


def test_the_core_asks_no_clock_and_opens_no_file():
    asked = {"now", "utcnow", "today", "getenv", "urandom", "token_bytes", "perf_counter"}
    found = [
        f"{source.path}:{node.lineno}"
        for source in _core()
        for node in ast.walk(source.tree)
        if (isinstance(node, ast.Attribute) and node.attr in asked)
        or (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in {"open", "input", "print"}
        )
    ]
    assert found == []


def test_every_module_of_the_core_has_a_floor():
    assert {Path(source.path).stem for source in _core()} == set(FLOORS)


def test_a_floor_stands_on_lower_floors_only():
    stairs = set()
    for source in _core():
        stem = Path(source.path).stem
        for item in _imports(source.tree):
            if item.level:
                of_a_room = item.module in ("", "applications")
                below = item.names if of_a_room else [item.module.split(".")[-1]]
                stairs |= {(stem, name) for name in below if FLOORS[name] >= FLOORS[stem]}
    assert stairs == SAME_FLOOR


def test_rings_never_import_rings():
    found = []
    for source in SOURCES:
        ring, depth = source.path.split("/")[0], source.path.count("/")
        for item in _imports(source.tree):
            # Absolute: only gridpost's own modules. Relative: never above the ring's own folder.
            names = [item.module, *(f"{item.module}.{name}" for name in item.names)]
            of_a_ring = any(name.removeprefix("gridpost.").split(".")[0] in RINGS for name in names)
            if (item.level == 0 and of_a_ring) or item.level > depth:
                found.append(f"{source.path}:{item.line}: {ring} imports {'.' * item.level}{item.module}")
    assert found == []


def test_each_foreign_library_has_one_home():
    own = set(sys.stdlib_module_names) | {"gridpost"}
    found = []
    for source in SOURCES:
        for item in _imports(source.tree):
            top = item.module.split(".")[0]
            if item.level == 0 and top not in own and not _in(source.path, HOMES.get(top, ())):
                found.append(f"{source.path}:{item.line}: {top}")
    assert found == []


@pytest.mark.parametrize("name", ["convert", "validate", "verify"])
def test_tools_name_neither_twisted_nor_the_store_at_their_head(name):
    tree = ast.parse((ROOT / f"server/commands/{name}.py").read_text(encoding="utf-8"))
    top_level = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    named = {item.module.split(".")[0] for node in top_level for item in _imports(node)}
    assert not named & {"twisted", "spyne", "store", "app", "zeep"}


# --- exact numbers, and errors that are seen -------------------------------------------------------------------------


def test_floats_are_banned_where_energy_is():
    rooms = ("gridpost/", "server/store/", "adapters/")
    found = [
        f"{source.path}:{node.lineno}"
        for source in SOURCES
        if _in(source.path, rooms) and source.path != "adapters/mv90/float32.py"
        for node in ast.walk(source.tree)
        if (isinstance(node, ast.Name) and node.id == "float")
        or (isinstance(node, ast.Constant) and isinstance(node.value, float))
    ]
    assert found == []


def test_no_error_is_swallowed():
    found = [
        f"{source.path}:{node.lineno}"
        for source in SOURCES
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}))
        and all(isinstance(statement, ast.Pass | ast.Continue) for statement in node.body)
    ]
    assert found == []


# --- size ------------------------------------------------------------------------------------------------------------


def _length(function: Function) -> int:
    """Lines of the body without its docstring."""
    body = function.body
    first = body[1] if ast.get_docstring(function) is not None and len(body) > 1 else body[0]
    assert function.end_lineno is not None
    return function.end_lineno - first.lineno + 1


def _is_command(function: Function) -> bool:
    """Tell whether click hands this function its options: a parameter each, so their number is the command line's."""
    calls = [node.func for node in function.decorator_list if isinstance(node, ast.Call)]
    return any(isinstance(call, ast.Attribute) and call.attr == "command" for call in calls)


def _parameters(function: Function) -> int:
    """A parameter named _x is there because a library passes it, and is not counted."""
    arguments = function.args
    given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return len([one for one in given if one.arg not in {"self", "cls"} and not one.arg.startswith("_")])


_BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match)


def _nesting(statements: list[ast.stmt], depth: int = 0) -> int:
    """The deepest block inside block; an elif stands beside its if, a nested function starts anew."""
    deepest = depth
    for node in statements:
        if isinstance(node, _BLOCKS):
            deepest = max(deepest, *(_nesting(inner, depth + 1) for inner in _inner(node)))
            chain = node
            while isinstance(chain, ast.If) and len(chain.orelse) == 1 and isinstance(chain.orelse[0], ast.If):
                chain = chain.orelse[0]
                deepest = max(deepest, *(_nesting(inner, depth + 1) for inner in _inner(chain)))
    return deepest


def _inner(node: ast.stmt) -> list[list[ast.stmt]]:
    if isinstance(node, ast.Match):
        return [case.body for case in node.cases]
    chained = isinstance(node, ast.If) and len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If)
    blocks = [getattr(node, "body", []), [] if chained else getattr(node, "orelse", []), getattr(node, "finalbody", [])]
    return blocks + [handler.body for handler in getattr(node, "handlers", [])]


def test_files_are_short():
    lengths = {source.path: source.text.count("\n") for source in SOURCES}
    assert {path: lines for path, lines in lengths.items() if lines > FILE_LINES} == {}


def test_functions_are_short():
    measured = {
        f"{source.path}:{function.lineno} {function.name}": _length(function)
        for source in SOURCES
        for function in _functions(source.tree)
    }
    assert {name: lines for name, lines in measured.items() if lines > FUNCTION_LINES} == {}
    lengths = sorted(measured.values())
    assert statistics.median(lengths) <= MEDIAN
    assert lengths[int(len(lengths) * 0.9)] <= NINE_IN_TEN


def test_functions_take_few_parameters():
    found = {
        f"{source.path}:{function.lineno} {function.name}": _parameters(function)
        for source in SOURCES
        for function in _functions(source.tree)
        if not _is_command(function)
    }
    assert {name: count for name, count in found.items() if count > PARAMETERS} == {}


def test_functions_are_not_deeply_nested():
    found = {
        f"{source.path}:{function.lineno} {function.name}": _nesting(function.body)
        for source in SOURCES
        for function in _functions(source.tree)
    }
    assert {name: depth for name, depth in found.items() if depth > NESTING} == {}


@pytest.mark.parametrize(
    ("code", "depth"),
    [
        ("pass", 0),
        ("if a:\n  pass\nelif b:\n  pass\nelif c:\n  pass", 1),
        ("for a in b:\n  if c:\n    with d:\n      try:\n        pass\n      finally:\n        pass", 4),
        ("try:\n  pass\nexcept A:\n  if b:\n    pass", 2),
        ("if a:\n  pass\nelse:\n  for b in c:\n    pass", 2),
        ("if a:\n  pass\nelif b:\n  for c in d:\n    pass", 2),
    ],
)
def test_nesting_is_measured_as_a_reader_sees_it(code, depth):
    assert _nesting(ast.parse(code).body) == depth


# --- words -----------------------------------------------------------------------------------------------------------


def test_every_file_says_at_its_head_what_it_is():
    short = {source.path: len(ast.get_docstring(source.tree) or "") for source in SOURCES}
    found = [path for path, length in short.items() if length < (10 if path.endswith("__init__.py") else 40)]
    assert found == []


def _public(source: Source) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """Public functions and classes of a module, and the public methods of its public classes."""
    for node in source.tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            methods = [one for one in node.body if isinstance(one, Function) and not one.name.startswith("_")]
            yield from ((f"{node.name}.{method.name}", method) for method in methods)


def test_everything_public_has_a_docstring():
    found = [
        f"{source.path}:{node.lineno} {name}"
        for source in SOURCES
        for name, node in _public(source)
        if ast.get_docstring(node) is None
    ]
    assert found == []


def test_everything_public_is_annotated():
    found = []
    for source in SOURCES:
        for name, node in _public(source):
            if isinstance(node, Function):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                bare = [one.arg for one in arguments if one.annotation is None and one.arg not in {"self", "cls"}]
                if bare or node.returns is None:
                    found.append(f"{source.path}:{node.lineno} {name} {bare}")
    assert found == []
