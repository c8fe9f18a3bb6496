"""Small damages to a module: each a `Mutant` that a good test must notice. What `mutate.py` makes and what it leaves.

Made: comparisons (the boundary moved, the opposite), a condition without one of its parts, and <-> or, a negation
dropped, an `if` turned round, integers + 1, True <-> False, texts changed, arithmetic exchanged, `return` of nothing, a
call or `raise` taken out, a slice's end moved by one.

Left alone, because no behaviour hangs on it or none that could be promised: docstrings, annotations, decorators,
assertions and `strict=`; and what people read in an error (the text of a `raise`, `detail=`, the name of a `_require`).
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip
_READ_BY_PEOPLE = {"detail", "strict"}  # keywords


@dataclass(frozen=True)
class Mutant:
    """One damage.

    Attributes:
        function: the qualified name of what holds it; ``<module>`` outside any function.
        what: ``before -> after``, and which one where a function has several alike.
        lines: where a test must have been to notice.
        at_import: it is made when the module is imported, so a function's code alone does not hold it.
        name: what a statement outside functions assigns: whoever reads that may notice.
    """

    file: str
    function: str
    what: str
    lines: frozenset[int]
    at_import: bool
    name: str
    place: tuple[ast.AST, str, int | None] = field(compare=False, repr=False)
    replacement: ast.AST = field(compare=False, repr=False)

    @property
    def key(self) -> tuple[str, str, str]:
        """What the list of accepted survivors calls it by."""
        return self.file, self.function, self.what


@dataclass(frozen=True)
class Mutated:
    """A module's tree and its mutants, which change that very tree: one a process."""

    tree: ast.Module
    mutants: tuple[Mutant, ...]
    path: str

    def code(self, mutant: Mutant) -> Any:
        """Return the module's code with the damage in it."""
        parent, name, index = mutant.place
        ast.copy_location(mutant.replacement, _old(mutant.place))
        if index is None:
            setattr(parent, name, mutant.replacement)
        else:
            getattr(parent, name)[index] = mutant.replacement
        return compile(ast.fix_missing_locations(self.tree), self.path, "exec", dont_inherit=True)


def of_file(root: Path, file: str) -> Mutated:
    """Return a file's mutants in the order they stand there."""
    path = root / file
    tree = ast.parse(path.read_text(), str(path))
    walk = _Walk(file)
    walk.statements(tree, "body", _Scope())
    alike: Counter[tuple[str, str, str]] = Counter()
    numbered = []
    for mutant in walk.found:
        alike[mutant.key] += 1
        times = alike[mutant.key]
        named = mutant if times == 1 else _renamed(mutant, f"{mutant.what} (no. {times})")
        numbered.append(named)
    return Mutated(tree, tuple(numbered), str(path))


def _renamed(mutant: Mutant, what: str) -> Mutant:
    values = {name: getattr(mutant, name) for name in mutant.__dataclass_fields__}
    return Mutant(**(values | {"what": what}))


def _old(place: tuple[ast.AST, str, int | None]) -> Any:
    parent, name, index = place
    value = getattr(parent, name)
    return value if index is None else value[index]


@dataclass(frozen=True)
class _Scope:
    """Where the walk is: in which function, which statement, and whether people alone read what stands here."""

    names: tuple[str, ...] = ()
    in_function: bool = False
    statement: ast.stmt | None = None
    quiet: bool = False

    def but(self, **values: Any) -> _Scope:
        return _Scope(**(self.__dict__ | values))


class _Walk:
    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[Mutant] = []

    def statements(self, parent: ast.AST, name: str, scope: _Scope) -> None:
        for index, statement in enumerate(getattr(parent, name)):
            self.statement(statement, (parent, name, index), scope.but(statement=statement, quiet=False))

    def statement(self, node: ast.stmt, place: tuple[ast.AST, str, int], scope: _Scope) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self.children(node.args, scope)
                self.statements(node, "body", scope.but(names=(*scope.names, node.name), in_function=True))
            case ast.ClassDef():
                self.statements(node, "body", scope.but(names=(*scope.names, node.name)))
            case ast.Assert() | ast.Import() | ast.ImportFrom():
                return
            case ast.Expr(value=ast.Constant()):  # a docstring
                return
            case _:
                for new in _of_statement(node):
                    self.add(node, place, new, scope)
                self.children(node, scope.but(quiet=isinstance(node, ast.Raise)))

    def children(self, node: ast.AST, scope: _Scope) -> None:
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "type_comment", "type_params"):
                continue
            if name in ("body", "orelse", "finalbody", "handlers", "cases") and isinstance(value, list):
                self.blocks(node, name, scope)
            elif isinstance(value, list):
                for index, item in enumerate(value):
                    self.visit(item, (node, name, index), self.quieter(node, name, index, scope))
            elif isinstance(value, ast.AST):
                self.visit(value, (node, name, None), self.quieter(node, name, None, scope))

    def blocks(self, node: ast.AST, name: str, scope: _Scope) -> None:
        if name in ("handlers", "cases"):
            for part in getattr(node, name):
                self.children(part, scope)
        else:
            self.statements(node, name, scope)

    def quieter(self, node: ast.AST, name: str, index: int | None, scope: _Scope) -> _Scope:
        """Leave alone what only people read: keywords of an error, and the name of a `_require`."""
        if isinstance(node, ast.keyword) and node.arg in _READ_BY_PEOPLE:
            return scope.but(quiet=True)
        named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_require"
        return scope.but(quiet=True) if named and name == "args" and index == 1 else scope

    def visit(self, node: Any, place: tuple[ast.AST, str, int | None], scope: _Scope) -> None:
        if not isinstance(node, ast.AST):
            return
        if not scope.quiet:
            for new in _of_expression(node):
                self.add(node, place, new, scope)
        self.children(node, scope)

    def add(self, node: ast.AST, place: tuple[ast.AST, str, int | None], new: ast.AST, scope: _Scope) -> None:
        own = [part for part in ast.walk(node) if hasattr(part, "lineno")]
        lines = {line for part in own for line in range(part.lineno, part.end_lineno + 1)}
        if isinstance(node, ast.If):
            lines = {node.lineno}
        statement = scope.statement
        assert statement is not None
        targets = [target.id for target in getattr(statement, "targets", []) if isinstance(target, ast.Name)]
        targets += [statement.target.id] if _assigns(statement) else []
        name = targets[0] if targets and not scope.in_function else ""
        function, what = ".".join(scope.names) or "<module>", f"{_text(node)} -> {_text(new)}"
        found = frozenset(lines | {statement.lineno})
        self.found.append(Mutant(self.file, function, what, found, not scope.in_function, name, place, new))


def _assigns(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)


def _text(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    if isinstance(node, ast.If):
        text = f"if {ast.unparse(node.test)}"
    return text if len(text) <= 120 else f"{text[:90]} ... {text[-25:]}"


def _of_statement(node: ast.stmt) -> Iterator[ast.AST]:
    match node:
        case ast.If(test=test) if not isinstance(test, ast.Compare | ast.UnaryOp):
            turned = copy.copy(node)
            turned.test = ast.UnaryOp(ast.Not(), test)
            yield turned
        case ast.Raise():
            yield ast.Pass()
        case ast.Expr(value=ast.Call() | ast.Await()):
            yield ast.Pass()
        case ast.AugAssign(op=op) if type(op) in _ARITHMETIC:
            changed = copy.copy(node)
            changed.op = _ARITHMETIC[type(op)]()
            yield changed
        case ast.Return(value=value) if value is not None and not _is_none(value):
            yield ast.Return(ast.Constant(None))


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _of_expression(node: ast.AST) -> Iterator[ast.AST]:
    for kind, changes in _EXPRESSIONS:
        if isinstance(node, kind):
            yield from changes(node)


def _compare(node: Any) -> Iterator[ast.AST]:
    for index, operator in enumerate(node.ops):
        if type(operator) in _COMPARISONS:
            changed = copy.copy(node)
            changed.ops = [*node.ops]
            changed.ops[index] = _COMPARISONS[type(operator)]()
            yield changed


def _bool(node: Any) -> Iterator[ast.AST]:
    yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    for index in range(len(node.values)):
        rest = [value for at, value in enumerate(node.values) if at != index]
        yield rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)


def _unary(node: Any) -> Iterator[ast.AST]:
    if isinstance(node.op, ast.Not | ast.USub):
        yield node.operand


def _binary(node: Any) -> Iterator[ast.AST]:
    if type(node.op) in _ARITHMETIC:
        yield ast.BinOp(node.left, _ARITHMETIC[type(node.op)](), node.right)


def _constant(node: Any) -> Iterator[ast.AST]:
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield ast.Constant(value + 1)
    elif isinstance(value, str):
        yield ast.Constant(value + "XX")
    elif isinstance(value, bytes):
        yield ast.Constant(value + b"XX")


def _choice(node: Any) -> Iterator[ast.AST]:
    yield ast.IfExp(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)


def _filter(node: Any) -> Iterator[ast.AST]:
    for index, condition in enumerate(node.ifs):
        changed = copy.copy(node)
        changed.ifs = [*node.ifs]
        changed.ifs[index] = ast.UnaryOp(ast.Not(), condition)
        yield changed


def _slice(node: Any) -> Iterator[ast.AST]:
    for name in ("lower", "upper"):
        end = getattr(node, name)
        if end is not None and not isinstance(end, ast.Constant):
            changed = copy.copy(node)
            setattr(changed, name, ast.BinOp(end, ast.Add(), ast.Constant(1)))
            yield changed


_EXPRESSIONS: tuple[tuple[type[ast.AST], Callable[[Any], Iterator[ast.AST]]], ...] = (
    (ast.Compare, _compare),
    (ast.BoolOp, _bool),
    (ast.UnaryOp, _unary),
    (ast.BinOp, _binary),
    (ast.Constant, _constant),
    (ast.IfExp, _choice),
    (ast.comprehension, _filter),
    (ast.Slice, _slice),
)
