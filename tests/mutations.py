"""The changes that a mutation test makes: one operator each.

Changed are comparisons, arithmetic, `and`/`or`/`not`, numbers, booleans, conditions, assignments, returns, statements
that are calls, `raise`, `break`, and the code in fragments of the fast path. Not changed are texts (a message, a name),
annotations, docstrings, decorators, declared signals, `assert` and `strict=`, which assert what holds anyway.
"""

from __future__ import annotations

import ast
import copy
import re

SWAP = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
    ast.In: ast.NotIn, ast.NotIn: ast.In,  # codespell:ignore notin
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip
TEXT = [
    (" < ", " <= "),
    (" > ", " >= "),
    (" + ", " - "),
    (" += ", " -= "),
    (" >= ", " > "),
    (" is None", " is not None"),
]


class Mutants(ast.NodeVisitor):
    """Collects changes of a module, each as a line, what it does, and how to apply it to the node of a copy."""

    def __init__(self, tree):
        self.found, self.path, self.tree = [], [], tree
        self.walk(tree, ())

    def add(self, node, path, what, change):
        self.found.append((node.lineno, what, path, change))

    def walk(self, node, path):
        if skipped(node):
            return
        self.mutate(node, path)
        for field, value in ast.iter_fields(node):
            if field in {"annotation", "returns", "decorator_list", "type_comment"}:
                continue
            if isinstance(value, ast.AST):
                self.walk(value, (*path, (field, None)))
            elif isinstance(value, list):
                for place, item in enumerate(value):
                    if isinstance(item, ast.AST):
                        self.walk(item, (*path, (field, place)))

    def mutate(self, node, path):
        for change, what in changes(node):
            self.add(node, path, what, change)

    def applied(self, index):
        """Return the module with one change."""
        _, _, path, change = self.found[index]
        tree = copy.deepcopy(self.tree)
        parent, (field, place) = at(tree, path[:-1]), path[-1]
        old = getattr(parent, field) if place is None else getattr(parent, field)[place]
        new = ast.copy_location(change(old), old)
        if place is None:
            setattr(parent, field, new)
        else:
            getattr(parent, field)[place] = new
        return ast.fix_missing_locations(tree)


def at(node, path):
    for field, place in path:
        node = getattr(node, field) if place is None else getattr(node, field)[place]
    return node


def skipped(node):
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return True
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in {"Event", "Metric", "Signals"}
    if isinstance(node, ast.keyword) and node.arg == "strict":
        return True
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id in {"TYPE_CHECKING", "__slots__"}
    return isinstance(node, ast.Assert)


def replaced(**fields):
    def change(node):
        for name, value in fields.items():
            setattr(node, name, value)
        return node

    return change


def with_first_op(op):
    def change(node):
        node.ops[0] = op
        return node

    return change


def changes(node):  # noqa: C901 - a table, by kind of node
    match node:
        case ast.Compare(ops=[op, *_]) if type(op) in SWAP:
            yield with_first_op(SWAP[type(op)]()), f"{type(op).__name__} -> {SWAP[type(op)].__name__}"
        case ast.BinOp(op=op) | ast.BoolOp(op=op) | ast.AugAssign(op=op) if type(op) in SWAP:
            yield replaced(op=SWAP[type(op)]()), f"{type(op).__name__} -> {SWAP[type(op)].__name__}"
            if isinstance(node, ast.AugAssign):
                yield lambda n: ast.Assign(targets=[n.target], value=n.value), "augmented -> plain"
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield (lambda n: n.operand), f"no {type(node.op).__name__}"
        case ast.Constant(value=bool() as value):
            yield replaced(value=not value), f"{value} -> {not value}"
        case ast.Constant(value=int() | float() as value):
            yield replaced(value=value + 1), f"{value} -> {value + 1}"
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test) if not isinstance(
            test, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Constant
        ):
            yield replaced(test=ast.UnaryOp(op=ast.Not(), operand=test)), "condition -> not condition"
        case ast.Return(value=value) if value is not None and not nothing(value):
            yield replaced(value=ast.Constant(value=None)), "return -> return None"
        case ast.Assign(value=value) if not nothing(value):
            yield replaced(value=ast.Constant(value=None)), "assigned -> None"
        case ast.Expr(value=ast.Call() | ast.Await()) | ast.Raise() | ast.Delete():
            yield (lambda n: ast.Pass()), f"{type(node).__name__} -> pass"
        case ast.Break():
            yield (lambda n: ast.Continue()), "break -> continue"
        case ast.Call(func=ast.Name(id="Fragment")):
            yield from in_fragments(node)


def in_fragments(node):
    """Change the code that a fragment adds to the fast path."""
    texts = [(None, n, a) for n, a in enumerate(node.args)] + [(k.arg, n, k.value) for n, k in enumerate(node.keywords)]
    for name, place, value in texts:
        if not (isinstance(value, ast.Constant) and isinstance(value.value, str)):
            continue
        for old, new in TEXT:
            for found in re.finditer(re.escape(old), value.value):
                text = value.value[: found.start()] + new + value.value[found.end() :]

                def change(call, name=name, place=place, text=text):
                    if name is None:
                        call.args[place] = ast.Constant(value=text)
                    else:
                        call.keywords[place].value = ast.Constant(value=text)
                    return call

                yield change, f"fragment: {old.strip()} -> {new.strip()}"


def nothing(value):
    """Whether None in its place would say the same; False and 0 have mutants of their own."""
    return isinstance(value, ast.Constant) and not value.value
