"""The documents say only what is there."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from copyd.config import load
from copyd.config.model import Destination, TableOptions, Transfer
from copyd.loading.ledger_table import COLUMNS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TRANSFERS = ROOT / "docs/transfers.md"
REJECTS = ROOT / "docs/rejects.md"
ARCHITECTURE = ROOT / "docs/architecture.md"
PLACE = r"`([a-z_/]+)\.py`: `([A-Za-z_.]+)`"
"""A module and the class, method or function in it."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_and_module_that_is_named_exists(page: Path) -> None:
    for name in re.findall(r"`([a-z_/]+\.py)`", page.read_text()):
        assert (ROOT / "copyd" / name).exists() or (ROOT / name).exists(), name
    for name in re.findall(r"`(copyd(?:\.[a-z_]+)+)`", page.read_text()):
        path = ROOT / name.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").exists(), name


def test_make_has_every_target_that_the_documents_name() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for target in re.findall(r"`make ([a-z-]+)`", page.read_text()):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name}: make {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_is_named_exists(page: Path) -> None:
    """Beside its name stands the file that it is in."""
    for line in page.read_text().splitlines():
        files = re.findall(r"`(tests/[a-z_/]+\.py)`", line)
        there = "".join((ROOT / file).read_text() for file in files)
        for name in re.findall(r"`(test_[a-z0-9_]+)`", line):
            assert f"def {name}(" in there, f"{page.name}: {name}"


def test_the_promises_name_tests() -> None:
    _, _, table = TRANSFERS.read_text().partition("| promise |")
    promises = table.partition("\n\n")[0].splitlines()[2:]
    assert len(promises) > 20
    for promise in promises:
        assert re.search(r"`tests/[a-z_/]+\.py`: `test_", promise), promise


@pytest.mark.parametrize("page", [ROOT / "README.md", TRANSFERS], ids=lambda page: page.name)
def test_the_configuration_that_is_shown_can_be_loaded(page: Path, tmp_path: Path) -> None:
    shown = next(
        text for text in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)
        if "[transfers." in text
    )  # fmt: skip
    (tmp_path / "config.toml").write_text(shown)
    assert load(tmp_path / "config.toml", environ={}, is_root=True).transfers


def test_every_key_of_a_transfer_that_is_named_exists() -> None:
    keys = {*Transfer.model_fields, *Destination.model_fields, *TableOptions.model_fields}
    named = set(re.findall(r"`([a-z_]+) = [^`]+`", TRANSFERS.read_text()))
    assert len(named) > 5
    assert named <= keys


def test_the_ledgers_columns_are_listed() -> None:
    _, _, table = TRANSFERS.read_text().partition("<!-- ledger -->")
    listed = [
        name
        for line in table.partition("\n\n")[0].splitlines()[3:]
        for name in re.findall(r"`([a-z_]+)`", line.split("|")[1])
    ]
    assert sorted(listed) == sorted(COLUMNS)


def test_the_keys_of_rejects_are_listed_with_their_defaults(tmp_path: Path) -> None:
    _, _, table = REJECTS.read_text().partition("| key | default |")
    listed = dict(
        re.findall(r"^\| `(\w+)` \| `(.+?)` \|", table.partition("\n\n")[0], re.MULTILINE)
    )
    assert len(listed) == 7
    servers = '[servers.a]\nconninfo = "host=a"\n[servers.b]\nconninfo = "host=b"\n'
    head = f'{servers}[transfers.t]\nsource = "a"\ndestinations = ["b"]\ntables = ["s.x"]\n'
    (tmp_path / "config.toml").write_text(f'{head}on_error = "resume_next"\n')
    implied = load(tmp_path / "config.toml", environ={}, is_root=True).transfers["t"]
    listed["on_error"] = '"resume_next"'
    lines = "".join(f"{key} = {value}\n" for key, value in listed.items())
    (tmp_path / "config.toml").write_text(head + lines)
    written = load(tmp_path / "config.toml", environ={}, is_root=True).transfers["t"]
    assert written == implied


def test_every_module_stands_in_the_tables_of_the_architecture() -> None:
    _, _, tables = ARCHITECTURE.read_text().partition("\n## The modules\n")
    named = set(re.findall(r"`([a-z_/]+\.py)`", tables.partition("\n## Glossary")[0]))
    tree = {
        str(path.relative_to(ROOT / "copyd"))
        for path in (ROOT / "copyd").rglob("*.py")
        if not path.name.startswith("__")
    }
    assert named == tree


def test_the_picture_has_every_package_of_the_import_rule() -> None:
    _, _, picture = ARCHITECTURE.read_text().partition("## The picture and the rule\n")
    shown = set(re.findall(r"[a-z_]+", picture.partition("```\n")[2].partition("```")[0]))
    rule = (ROOT / "pyproject.toml").read_text()
    layers = [
        name
        for block in re.findall(r"layers = \[\n(.*?)\n\]", rule, re.DOTALL)
        for name in re.findall(r"[a-z_]+", block)
    ]
    assert len(layers) > 20
    assert set(layers) <= shown


@pytest.mark.parametrize("walk", ["One chunk", "One SIGHUP", "One fault"])
def test_every_hop_of_a_walk_exists(walk: str) -> None:
    _, _, text = ARCHITECTURE.read_text().partition(f"### {walk}\n")
    hops = re.findall(r"(?m)^\d+\. (.*)$", text.partition("\n#")[0])
    assert len(hops) > 8
    for hop in hops:
        assert re.match(PLACE, hop), hop


def test_every_place_that_the_architecture_names_exists() -> None:
    places = re.findall(PLACE, ARCHITECTURE.read_text())
    assert len(places) > 60
    for module, name in places:
        found: object = import_module(f"copyd.{module.replace('/', '.')}")
        for part in name.split("."):
            fields = getattr(found, "__dataclass_fields__", {})
            found = fields[part] if part in fields else getattr(found, part, None)
            assert found is not None, f"{module}.py has no {name}"


def test_every_decision_that_the_code_names_is_written_down() -> None:
    decisions = (ROOT / "docs/decisions.md").read_text()
    headings = {line[3:] for line in decisions.splitlines() if line.startswith("## ")}
    sources = [*(ROOT / "copyd").rglob("*.py"), *(ROOT / "copyd").rglob("*.sql")]
    named = {
        (path.name, name)
        for path in sources
        for name in re.findall(r"(?m)(?:#|--) Decision: (.+?)\.?$", path.read_text())
    }
    assert len(named) > 10
    assert not {each for each in named if each[1] not in headings}, "docs/decisions.md"
