"""Spyne 2.14.0 made importable on today's Pythons, and the names of it that `soap.py` uses.

In: nothing. Out: those names. Nothing here changes what Spyne does with a message, only whether it can be imported
(facts: Spyne at the office edge, trap 9), that it does not run the garbage collector once a second (trap 5) and that it
logs nothing: its lines hold whole messages (trap 6). Its transports are never imported.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import logging
import sys
import types
import warnings
from collections.abc import Mapping
from email.message import Message
from typing import Any

_SIX = "spyne.util.six"


def repair(version: tuple[int, ...] = sys.version_info[:2]) -> None:
    """Make `import spyne` possible; doing it again changes nothing."""
    if _SIX not in sys.modules:
        _load_six()
    if version >= (3, 13) and "cgi" not in sys.modules:
        sys.modules["cgi"] = _cgi()


def _load_six() -> None:
    """Load the six inside Spyne with an importer that has find_spec: Python 3.12 asks for nothing else, 3.11 warns."""
    found = importlib.util.find_spec("spyne")
    assert found is not None, "Spyne is installed"
    assert found.submodule_search_locations
    file = f"{found.submodule_search_locations[0]}/util/six.py"
    spec = importlib.util.spec_from_file_location(_SIX, file)
    assert spec is not None, "six is part of Spyne"
    assert spec.loader is not None
    six = importlib.util.module_from_spec(spec)
    sys.modules[_SIX] = six
    spec.loader.exec_module(six)
    importer = type(six._importer)

    def find_spec(self: Any, fullname: str, _path: object = None, _target: object = None) -> Any:
        known = fullname in self.known_modules
        return importlib.machinery.ModuleSpec(fullname, self, is_package=self.is_package(fullname)) if known else None

    importer.find_spec = find_spec
    importer.create_module = lambda self, spec: self.load_module(spec.name)
    importer.exec_module = lambda self, module: None


def _cgi() -> types.ModuleType:
    """Stand in for the module that left with Python 3.13: Spyne names these two, and we call neither."""
    module = types.ModuleType("cgi")
    named: Mapping[str, object] = {"parse_header": _parse_header, "FieldStorage": None}
    vars(module).update(named)
    return module


def _parse_header(line: str) -> tuple[str, dict[str, str]]:
    message = Message()
    message["content-type"] = line
    (first, _), *rest = message.get_params(failobj=[("", "")])
    return first, dict(rest)


def _imported(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


repair()
logging.getLogger("spyne").setLevel(logging.CRITICAL + 1)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # its import of cgi, up to Python 3.12
    Application, AnyXml, Fault, MethodContext, Service, rpc = (
        _imported("spyne", name) for name in ("Application", "AnyXml", "Fault", "MethodContext", "Service", "rpc")
    )
    ServerBase = _imported("spyne.server", "ServerBase")
    Soap11 = _imported("spyne.protocol.soap", "Soap11")
    vars(importlib.import_module("spyne.const"))["MIN_GC_INTERVAL"] = float("inf")
