"""The house stays as it was built: how large things grow, what they are called, who imports what."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "copyd").rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}
PACKAGES = {name for name, path in MODULES.items() if path.name == "__init__.py"}
MOST_METHODS = 25
MOST_LINES = 400
LARGE_BY_DESIGN = {"copyd.cluster.cluster.Cluster"}
"""Its methods are those of postgresql.installation's Cluster, whose users find them here."""

NOUNS = {"copyd.testing"}
"""Called as in numpy.testing or pandas.testing, where users of a library look for it."""


def classes() -> Iterator[tuple[str, ast.ClassDef]]:
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield module, node


def layers() -> dict[str, int]:
    """Return the layer of each part of copyd, counted from the top, as import-linter holds it."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    (found,) = (each["layers"] for each in contracts if each.get("containers") == ["copyd"])
    return {
        part.strip(" ()"): number for number, line in enumerate(found) for part in line.split("|")
    }


def imports() -> Iterator[tuple[str, str, str]]:
    """Yield who imports what from where; without a name where a module is imported as a whole."""
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in MODULES:
                yield from ((module, node.module, alias.name) for alias in node.names)
            elif isinstance(node, ast.Import):
                yield from ((module, name.name, "") for name in node.names if name.name in MODULES)


def face(package: str) -> set[str]:
    """Return the names that ``__init__`` of a package imports for others."""
    imported = (node for node in TREES[package].body if isinstance(node, ast.ImportFrom))
    return {alias.name for node in imported for alias in node.names}


def is_in_face(package: str, name: str) -> bool:
    """Whether others may import it: the face has it, or it is a package with its own face."""
    return name in face(package) or f"{package}.{name}" in PACKAGES


def test_no_class_has_more_than_25_methods() -> None:
    found = {
        f"{module}.{node.name}": methods
        for module, node in classes()
        if (methods := sum(isinstance(each, ast.FunctionDef) for each in node.body)) > MOST_METHODS
    }
    assert found.keys() <= LARGE_BY_DESIGN, "a class has a subject, not a life: find the second"


def test_no_module_has_more_than_400_lines() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    large = {name: length for name, length in lengths.items() if length > MOST_LINES}
    assert not large, "a module that does not fit in the head holds two subjects"


def test_no_layer_has_two_public_classes_of_one_name() -> None:
    layer, found = layers(), defaultdict(set)
    for module, node in classes():
        if not node.name.startswith("_") and module not in {"copyd", "copyd.__main__"}:
            found[layer[module.split(".")[1]], node.name].add(module)
    twice = {name: modules for (_, name), modules in found.items() if len(modules) > 1}
    assert not twice, "a name has one meaning, at least among neighbours"


def test_no_module_is_called_by_a_verb() -> None:
    verbs = [name for name in MODULES.keys() - PACKAGES - NOUNS if name.endswith("ing")]
    assert not verbs, "a module is a thing: its name is a noun, not what is done in it"


def test_every_package_is_imported_through_its_face() -> None:
    past = []
    for importer, module, name in imports():
        package = module if module in PACKAGES else module.rpartition(".")[0]
        is_inside = f"{importer}.".startswith(f"{package}.")
        if not is_inside and (module not in PACKAGES or not is_in_face(package, name)):
            past.append(f"{importer}: {module} {name}")
    assert not past, "others import what a package's __init__ imports; the rest is a detail"
