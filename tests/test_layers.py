"""Imports point down: words, readers, effects, work, edges (ARCHITECTURE.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "llamero"

FLOORS = (
    ("errors", "config", "durations", "sizes", "names", "options", "messages"),
    ("gguf", "modelfile", "template", "chat", "dialects"),
    ("child", "store", "registry", "engines", "client", "responses", "pictures"),
    ("build", "scheduler"),
    ("server", "cli", "webui"),
)
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}

WORDS_MAY_IMPORT = {"llamero", "msgspec"}

MODULES = sorted(SOURCE.rglob("*.py"))


def part_of(module: Path) -> str:
    """The package, or the module at the top, that a file belongs to."""
    return module.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(module: Path) -> set[str]:
    """Dotted names of everything a module imports, also inside functions; relative ones resolved."""
    package = ["llamero", *module.relative_to(SOURCE).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            found.add(prefix)
            found |= {f"{prefix}.{alias.name}" for alias in node.names}
    return found


def used_parts(module: Path) -> set[str]:
    names = {name.split(".")[1] for name in imports(module) if name.startswith("llamero.")}
    return {name for name in names if name in LEVEL}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down(module: Path) -> None:
    own = part_of(module)
    if own == "__init__":
        assert not used_parts(module)
        return
    assert own in LEVEL, f"{own} stands on no floor: give it one here and in ARCHITECTURE.md"
    upward = {name for name in used_parts(module) if LEVEL[name] > LEVEL[own]}
    assert not upward, f"{own} must not know {upward}"


@pytest.mark.parametrize("name", FLOORS[0])
def test_words_need_little(name: str) -> None:
    import sys

    modules = [module for module in MODULES if part_of(module) == name]
    assert modules
    roots = {found.partition(".")[0] for module in modules for found in imports(module)}
    assert roots <= set(sys.stdlib_module_names) | WORDS_MAY_IMPORT


def test_only_the_runner_knows_the_wheel() -> None:
    users = {module.name for module in MODULES if any(name.startswith("xllamacpp") for name in imports(module))}
    assert users == {"runner.py"}


def test_nothing_renders_jinja_or_runs_data_as_code() -> None:
    """Partly X-72 and X-97: the server evaluates no text of a model."""
    forbidden = {"jinja2", "pickle", "marshal", "shelve", "yaml", "torch"}
    for module in MODULES:
        assert not forbidden & {name.partition(".")[0] for name in imports(module)}, module
        calls = {
            node.func.id
            for node in ast.walk(ast.parse(module.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not {"eval", "exec"} & calls, module


def test_architecture_names_every_package() -> None:
    text = (SOURCE.parents[1] / "ARCHITECTURE.md").read_text()
    missing = [
        name for name in LEVEL if (SOURCE / name).exists() or (SOURCE / f"{name}.py").exists() if f"`{name}" not in text
    ]
    assert not missing
