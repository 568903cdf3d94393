"""`upgrade` tells and does nothing (X-99)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from llamero.cli.upgrade import Installation, find_installation, guide
from tests.cli.conftest import Ollama
from tests.cli.scripted_server import ScriptedServer

SOURCE = Path(__file__).parents[2] / "src" / "llamero"
VENV = Installation("/opt/llamero/bin/python", Path("/opt/llamero"), is_environment=True, installer="pip")


@pytest.mark.parametrize(
    ("installation", "how", "commands"),
    [
        pytest.param(
            VENV,
            "pip installed it into the environment /opt/llamero",
            ["/opt/llamero/bin/python -m pip install --upgrade ."],
            id="pip in an environment",
        ),
        pytest.param(
            replace(VENV, installer="uv"),
            "uv installed it into /opt/llamero",
            ["uv pip install --python /opt/llamero/bin/python --upgrade ."],
            id="uv pip",
        ),
        pytest.param(
            replace(VENV, installer="uv", marks=["uv-receipt.toml"]),
            "it is a tool of uv",
            ["uv tool upgrade llamero"],
            id="uv tool",
        ),
        pytest.param(
            replace(VENV, marks=["pipx_metadata.json"]),
            "it was installed by pipx",
            ["pipx upgrade llamero"],
            id="pipx",
        ),
        pytest.param(
            replace(VENV, marks=["conda-meta"]),
            "pip installed it into conda's environment /opt/llamero",
            ["/opt/llamero/bin/python -m pip install --upgrade ."],
            id="conda",
        ),
        pytest.param(
            Installation("/usr/bin/python3", Path("/usr"), installer="pip", is_users=True),
            "pip installed it into Python in /usr",
            ["/usr/bin/python3 -m pip install --user --upgrade ."],
            id="a user's packages",
        ),
        pytest.param(
            Installation("/usr/bin/python3", Path("/usr"), installer="pip", is_managed=True),
            "it is in the system's Python, which belongs to the distribution",
            ["python3 -m venv /opt/llamero", "/opt/llamero/bin/pip install --upgrade ."],
            id="the distribution's Python",
        ),
        pytest.param(
            replace(VENV, checkout="/src/my llamero"),
            "it is used from its source in /src/my llamero",
            ["git -C '/src/my llamero' pull", "/opt/llamero/bin/python -m pip install --editable '/src/my llamero'"],
            id="a source folder",
        ),
        pytest.param(
            replace(VENV, is_container=True),
            "it runs in a container",
            ["git pull", "docker compose -f deploy/docker/compose.yaml up --build --detach"],
            id="a container",
        ),
    ],
)
def test_how_each_installation_is_made_newer(installation: Installation, how: str, commands: list[str]) -> None:
    found = guide(installation)
    assert found.how.startswith(how)
    assert list(found.commands) == commands


def test_this_installation_is_found() -> None:
    found = find_installation({})
    assert found.is_environment
    assert Path(found.python).is_relative_to(found.prefix)
    assert find_installation({"container": "podman"}).is_container
    if found.checkout:  # as CI installs it
        assert (Path(found.checkout) / "pyproject.toml").exists()


def test_it_tells_and_asks_no_server(ollama: Ollama, server: ScriptedServer) -> None:
    outcome = ollama("upgrade")
    assert (outcome.status, outcome.err) == (0, "")
    assert "\n    " in outcome.out, "there is a command to copy"
    assert server.requests == []


# --- no code path downloads and executes updates ---------------------------------------------------------------

INSTALLING = {"install", "upgrade", "--upgrade", "-U", "sync", "ensurepip"}
INSTALLERS = ("pip", "pipx", "uv", "conda", "ensurepip")


def trees(naming: str) -> Iterator[tuple[str, ast.Module]]:
    """The modules in whose text there is such a word: parsing all of them takes seconds."""
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text()
        if re.search(naming, text):
            yield path.relative_to(SOURCE).as_posix(), ast.parse(text)


def test_x99_upgrade_can_neither_fetch_nor_run() -> None:
    """X-99, with the next two: the command that is named after it has no way to do it."""
    tree = ast.parse((SOURCE / "cli" / "upgrade.py").read_text())
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported <= {
        *("__future__", "collections.abc", "dataclasses", "importlib.metadata", "pathlib"),
        *("json", "os", "shlex", "site", "sys", "sysconfig", "", "app"),
    }
    calls = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _is_os(node)}
    assert calls == {"path"}, "of os, only its path functions"


def _is_os(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "os"


def installs(node: ast.AST) -> bool:
    """Whether these are the words of a command with which a program of that kind installs, also by a name for it."""
    if not isinstance(node, ast.List | ast.Tuple):
        return False
    words = {each.value for each in node.elts if isinstance(each, ast.Constant)}
    return bool(words & INSTALLING) and bool(set(INSTALLERS) & set(re.findall(r"\w+", ast.unparse(node).lower())))


def test_x99_nothing_tells_an_installer_to_install() -> None:
    """X-99: pip is asked for files (`download`, `config`, `index`), and no list of words tells it to install."""
    found = [
        f"{file}:{node.lineno}"
        for file, tree in trees("(?i)" + "|".join(INSTALLERS))
        for node in ast.walk(tree)
        if installs(node)
    ]
    assert found == []


def test_x99_no_shell_and_no_code_from_elsewhere_is_run() -> None:
    """X-99: no shell puts words together, and nothing that was read is imported or run as Python."""
    found = []
    for file, tree in trees(r"\bshell\b|\bos\.(system|popen)|\bexec\(|\beval\(|runpy|__import__"):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            has_shell = any(word.arg == "shell" for word in node.keywords)
            if has_shell or name in {"os.system", "os.popen", "exec", "eval", "runpy.run_path", "__import__"}:
                found.append(f"{file}:{node.lineno} {name}")
    assert found == []


def test_the_checks_above_see_what_they_look_for() -> None:
    for command in ("[sys.executable, '-m', 'pip', 'install', 'llamero']", "(*PIP, 'install', name)"):
        assert any(installs(node) for node in ast.walk(ast.parse(f"subprocess.run({command})")))
    assert not any(installs(node) for node in ast.walk(ast.parse("run([*PIP, 'download', name])")))
    assert "registry/pip.py" in dict(trees(r"\bpip\b"))
