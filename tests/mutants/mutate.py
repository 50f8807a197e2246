"""The mutation operators: source text to variants of it with one small fault each.

a and b, a or b       one operand dropped
if, while, case       the condition negated; a guard of `case` also dropped
not a                 a
==  <  is  in  …      its opposite, or its neighbour
statement             an assignment or a call removed
1, True               one more, one less; the other truth value
field: T = d          of a class: of any type; without its default
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from msgspec import Struct

_OTHER_OPERATORS: dict[type[ast.cmpop], tuple[str, ...]] = {
    ast.Eq: ("!=",),
    ast.NotEq: ("==",),
    ast.Lt: ("<=", ">="),
    ast.LtE: ("<", ">"),
    ast.Gt: (">=", "<="),
    ast.GtE: (">", "<"),
    ast.Is: ("is not",),
    ast.IsNot: ("is",),
    ast.In: ("not in",),
    ast.NotIn: ("in",),
}


class Mutant(Struct, frozen=True):
    """One fault: the text of the file from `start` to `end` (in bytes) becomes `text`."""

    name: str
    """Qualified name of the function or class that is mutated."""
    start: int
    end: int
    text: str
    line: int
    """Number of the first line that differs, from 1."""

    def applied(self, source: str) -> str:
        """The mutated file."""
        data = source.encode()
        return (data[: self.start] + self.text.encode() + data[self.end :]).decode()

    def now(self, source: str) -> str:
        """The first line that differs, as it reads in the mutated file."""
        return self.applied(source).splitlines()[self.line - 1].strip()


def mutants(source: str, name: str) -> Iterator[Mutant]:
    """All mutants of one function or class; LookupError when the file does not have it."""
    lines = [len(line) for line in source.encode().splitlines(keepends=True)]
    starts = [sum(lines[:number]) for number in range(len(lines))]
    seen: set[str] = set()
    for node, text in _variants(_definition(ast.parse(source), name)):
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        found = Mutant(
            name,
            starts[node.lineno - 1] + node.col_offset,
            starts[node.end_lineno - 1] + node.end_col_offset,
            text,
            node.lineno,
        )
        changed = found.applied(source)
        if changed not in seen:
            seen.add(changed)
            yield found


Variant = tuple[ast.expr | ast.stmt, str]


def _definition(tree: ast.Module, name: str) -> ast.FunctionDef | ast.ClassDef:
    body: list[ast.stmt] = tree.body
    found: ast.stmt | None = None
    for part in name.split("."):
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        found = next((one for one in body if isinstance(one, kinds) and one.name == part), None)
        if found is None:
            raise LookupError(name)
        body = found.body  # type: ignore[attr-defined]
    assert isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    return found  # type: ignore[return-value]


def _variants(definition: ast.FunctionDef | ast.ClassDef) -> Iterator[Variant]:
    fields = isinstance(definition, ast.ClassDef)
    for node in _walk(definition):
        match node:
            case ast.AnnAssign() if fields:
                yield node.annotation, "object"
                if node.value is not None:
                    target, annotation = ast.unparse(node.target), ast.unparse(node.annotation)
                    yield node, f"{target}: {annotation}"
            case ast.AnnAssign(value=ast.expr()) | ast.Assign() | ast.AugAssign():
                yield node, f"pass  # {_short(node)}"
            case ast.Expr(value=ast.Call() | ast.Yield() | ast.YieldFrom() | ast.Await()):
                yield node, f"pass  # {_short(node)}"
            case ast.BoolOp():
                for one in node.values:
                    rest = [value for value in node.values if value is not one]
                    yield node, _in_brackets_if_several(f" {_word(node.op)} ", rest)
            case ast.Compare():
                words = [ast.unparse(ast.Compare(_A, [op], [_A]))[2:-2] for op in node.ops]
                for place, op in enumerate(node.ops):
                    for other in _OTHER_OPERATORS[type(op)]:
                        yield node, _compared(node, [*words[:place], other, *words[place + 1 :]])
            case ast.UnaryOp(op=ast.Not()):
                yield node, f"({ast.unparse(node.operand)})"
            case ast.Constant(value=bool()):
                yield node, str(not node.value)
            case ast.Constant(value=int()):
                yield node, str(node.value + 1)
                yield node, str(node.value - 1)
            case _:
                pass
        match node:
            case ast.If() | ast.While() | ast.IfExp() if not isinstance(node.test, ast.Compare):
                yield node.test, f"(not ({ast.unparse(node.test)}))"
            case ast.comprehension():
                for test in node.ifs:
                    yield test, f"(not ({ast.unparse(test)}))"
            case ast.match_case(guard=ast.expr() as guard):
                yield guard, f"(not ({ast.unparse(guard)}))"
                yield guard, "True"
            case _:
                pass


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """A function's or class's own nodes: neither annotations, nor what is inside an f-string."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.arguments | ast.JoinedStr):
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and child is node.returns:
            continue
        if isinstance(node, ast.AnnAssign) and child is node.annotation:
            continue
        if isinstance(node, ast.ClassDef) and not isinstance(child, ast.AnnAssign):
            continue
        yield child
        yield from _walk(child)


def _word(op: ast.boolop) -> str:
    return "and" if isinstance(op, ast.And) else "or"


_A = ast.Name("a")


def _compared(node: ast.Compare, words: list[str]) -> str:
    right = zip(words, map(_in_brackets, node.comparators), strict=True)
    parts = [_in_brackets(node.left), *(f"{word} {operand}" for word, operand in right)]
    return f"({' '.join(parts)})"


def _in_brackets_if_several(word: str, nodes: list[ast.expr]) -> str:
    text = word.join(map(_in_brackets, nodes))
    return text if len(nodes) == 1 else f"({text})"


def _in_brackets(node: ast.expr) -> str:
    text = ast.unparse(node)
    binds = ast.Name | ast.Attribute | ast.Constant | ast.Call | ast.Subscript
    return text if isinstance(node, binds) else f"({text})"


def _short(node: ast.stmt) -> str:
    return ast.unparse(node).replace("\n", " ")
