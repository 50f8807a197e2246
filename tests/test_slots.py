"""Classes with slots: each attribute that they set has one. Type checkers miss unpacked tuples."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest

import translator


def modules() -> Iterator[str]:
    for found in pkgutil.walk_packages(translator.__path__, "translator."):
        if not found.name.endswith("__main__"):
            yield found.name


def assigned(tree: ast.ClassDef) -> set[str]:
    """The attributes of `self` that a class sets in its own methods."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


@pytest.mark.parametrize("name", [*modules()])
def test_each_attribute_has_a_slot(name: str) -> None:
    module = importlib.import_module(name)
    trees = {
        node.name: node
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.ClassDef)
    }
    for class_name, tree in trees.items():
        made = getattr(module, class_name, None)
        if not isinstance(made, type) or "__slots__" not in vars(made):
            continue
        if hasattr(made, "__struct_fields__") or getattr(made, "__dictoffset__", 0):
            continue
        missing = {one for one in assigned(tree) if not hasattr(made, one)}
        assert not missing, f"{class_name}: {sorted(missing)}"
