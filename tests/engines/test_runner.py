"""The child program: what it asks of the wheel, how light it is, and that it never outlives its parent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamero.config import KV_CACHE_TYPES
from llamero.engines import AdapterFile, Endpoint, LoadPlan, Placement
from llamero.engines.llamacpp import parameters
from llamero.engines.runner import COMMAND
from llamero.engines.speculation import NAMES
from tests.engines.starting import DEADLINE_S, eventually, gone, plan_of
from tests.running import is_running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

NO_SUCH_FILE = Path("/nowhere/model.gguf")


def python(code: str, *argv: str, **more: Any) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-P", "-c", code, *argv]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, **more)


def runner(order: dict[str, Any], *flags: str, **more: Any) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        [*COMMAND, *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps({"parent": os.getpid()} | order).encode() + b"\n")
    child.stdin.flush()
    return child


def said(child: subprocess.Popen[bytes]) -> str:
    """All it says until it ends. Its standard input stays open meanwhile: it would end with that."""
    assert child.stdout is not None
    out = child.stdout.read()
    child.communicate(timeout=DEADLINE_S)
    return out.decode()


@pytest.fixture
def reaped() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Children whose end is watched from outside."""
    children: list[subprocess.Popen[bytes]] = []
    yield children
    for child in children:
        child.kill()
        child.communicate()


# --- the contract with the wheel -----------------------------------------------------------------------------------

CONFIGURE = """
import json, sys
from llamero.engines.runner import configure
for line in sys.stdin:
    settings = json.loads(line)
    params = configure(settings)
    found = {}
    for path in settings:
        value = params
        for name in path.split("."):
            value = getattr(value, name)
        named = [getattr(item, "name", item) for item in (value if isinstance(value, list) else [value])]
        found[path] = named if isinstance(value, list) else named[0]
    found["lora_adapters"] = [[adapter.path, adapter.scale] for adapter in params.lora_adapters]
    print(json.dumps(found))
"""


def configured(*orders: dict[str, Any]) -> list[dict[str, Any]]:
    """What the wheel's parameters hold after these settings, enums by name."""
    child = python(CONFIGURE)
    out, _ = child.communicate("".join(json.dumps(order) + "\n" for order in orders).encode(), timeout=DEADLINE_S)
    lines = out.decode().splitlines()
    assert child.returncode == 0, lines[-1]
    return [json.loads(line) for line in lines]


EVERYTHING: dict[str, Any] = {
    "projectors": (Path("/p.gguf"), Path("/q.gguf")),
    "adapters": (Path("/a.gguf"), Path("/b.gguf")),
    "extra_adapters": (AdapterFile(Path("/c.gguf"), 1),),
    "ctx_tokens": 1024,
    "slots": 3,
    "pool_tokens": 2048,
    "batch_tokens": 256,
    "gpu_layers": 7,
    "main_gpu": 1,
    "use_mmap": False,
    "threads": 5,
    "embedding": True,
    "reranking": True,
    "kv_type": "q8_0",
    "flash_attention": True,
    "context_shift": False,
    "keep_tokens": 11,
    "cache_ram_mib": 100,
    "chat_template": "{{ messages }}",
    "spare_template": "chatml",
    "image_tokens": 1024,
    "placement": Placement(gpus=("CUDA0", "CUDA1"), fit=True, fit_target_mib=(512, 1024), projector_on_gpu=False),
    "speculation": "draft",
    "draft_tokens": 6,
    "match_tokens": 9,
    "draft_model": Path("/d.gguf"),
}

PLANS = [
    plan_of(NO_SUCH_FILE),
    plan_of(NO_SUCH_FILE, **EVERYTHING),
    plan_of(NO_SUCH_FILE, gpu_layers=0, projectors=(Path("/p.gguf"),), flash_attention=False),
    plan_of(NO_SUCH_FILE, placement=Placement(gpus=("ROCm0",), reads_directly=True)),
    *(plan_of(NO_SUCH_FILE, kv_type=kind) for kind in KV_CACHE_TYPES),
    *(plan_of(NO_SUCH_FILE, speculation=way, draft_tokens=5, match_tokens=4) for way in NAMES),
    plan_of(NO_SUCH_FILE, speculation="draft", draft_tokens=5, draft_model=Path("/d.gguf"), gpu_layers=0),
]


def test_every_setting_exists_in_the_wheel() -> None:
    """Names move between its releases: each that a plan can lead to is set, and read back."""
    assert set(EVERYTHING) | {"key", "model"} == set(LoadPlan.__dataclass_fields__), "a field of the plan is not tried"
    endpoints = [Endpoint("secret", socket="/x.sock"), Endpoint("secret", port=4711)]
    orders = [parameters(plan, endpoint) for plan in PLANS for endpoint in endpoints]
    for order, found in zip(orders, configured(*orders), strict=True):
        adapters = [[adapter["path"], adapter["scale"]] for adapter in order.pop("lora_adapters", [])]
        if target := order.pop("fit_params_target", None):
            first, second, *others = found.pop("fit_params_target")
            assert [first, second] == target
            assert set(others) == {second}, "the last one is for all that are not named"
        assert found == order | {"lora_adapters": adapters}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"n_ctx_of_tomorrow": 1}, "AttributeError"),
        ({"model.path_of_tomorrow": "x"}, "AttributeError"),
        ({"load_mode": "LLAMA_LOAD_MODE_OF_TOMORROW"}, "KeyError"),
        ({"speculative.types": ["COMMON_SPECULATIVE_TYPE_OF_TOMORROW"]}, "KeyError"),
    ],
)
def test_a_setting_that_the_wheel_lacks_is_an_error(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(AssertionError, match=f"^{reason}"):
        configured(settings)


def test_it_is_light() -> None:
    """Each import is a delay before the first token."""
    code = """if True:
        import sys
        import llamero.engines.runner
        names = {name.partition('.')[0] if not name.startswith('llamero') else name for name in sys.modules}
        print(*sorted(names - set(sys.stdlib_module_names)))
        print(*sorted({'asyncio', 'subprocess', 'logging', 'inspect'} & set(sys.modules)))
    """
    ours, heavy, _ = said(python(code)).split("\n")
    assert {name for name in ours.split() if name.startswith("llamero")} == {
        "llamero",
        "llamero.engines",
        "llamero.engines.runner",
    }
    assert not {"aiohttp", "msgspec", "numpy", "xllamacpp"} & set(ours.split())
    assert "asyncio" not in heavy.split()


def test_what_lies_in_the_folder_of_the_server_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("print('this must not run')")
    (tmp_path / "llamero").mkdir()
    (tmp_path / "llamero" / "__init__.py").write_text("print('nor this')")
    assert said(runner({}, "--devices", cwd=tmp_path)).startswith("[{")


# --- life and death ------------------------------------------------------------------------------------------------


def test_a_parent_that_is_gone_already_is_noticed() -> None:
    child = runner({"parent": os.getppid(), "exec": ["/bin/echo", "this must not run"]})
    assert said(child) == ""
    assert child.returncode == 1


def test_nothing_is_done_without_an_order() -> None:
    child = subprocess.Popen(COMMAND, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert child.wait(DEADLINE_S) == 1


def test_it_leaves_no_core_dump() -> None:
    """That would hold prompts. (Partly X-89.)"""
    child = runner({"exec": ["/bin/cat", "/proc/self/limits"]})
    (row,) = [line for line in said(child).splitlines() if line.startswith("Max core file size")]
    assert row.split()[4:6] == ["0", "0"]


def test_a_foreign_program_takes_its_place() -> None:
    """Same process: killing the child kills that program, and its end is the child's."""
    child = runner({"exec": ["/bin/sh", "-c", "echo $$; exit 3"]})
    assert said(child) == f"{child.pid}\n"
    assert child.returncode == 3


def test_a_program_that_cannot_be_run_is_named_without_its_folder(tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_bytes(b"\x7fELF of another machine")
    program.chmod(0o755)
    child = runner({"exec": [str(program)]})
    assert said(child) == "error: llama-server cannot be run: Exec format error\n"
    assert child.returncode == 1


ACCOMPANY = "import sys; from llamero.engines.runner import accompany; accompany(sys.argv[1:])"


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137)], ids=["well", "badly", "killed"]
)
def test_beside_a_foreign_program_it_ends_as_that_ends(script: str, status: int) -> None:
    """Where there is no death signal, the child stays beside the program."""
    child = python(ACCOMPANY, "/bin/sh", "-c", script)
    assert said(child) == ""
    assert child.returncode == status


async def test_beside_a_foreign_program_it_ends_that_when_the_parent_is_gone(reaped: list[Any]) -> None:
    child = python(ACCOMPANY, "/bin/sh", "-c", "echo $$; exec sleep 600")
    reaped.append(child)
    assert child.stdin is not None
    assert child.stdout is not None
    program = int(child.stdout.readline())
    assert is_running(program)
    child.stdin.close()
    child.stdin = None
    await gone(program)
    assert child.wait(DEADLINE_S) == 137


@pytest.mark.engine
async def test_an_engine_ends_with_its_standard_input(smollm2_gguf: Path, tmp_path: Path, reaped: list[Any]) -> None:
    """The sign of life where there is no death signal."""
    endpoint = Endpoint("secret", socket=str(tmp_path / "engine.sock"))
    child = runner({"settings": parameters(plan_of(smollm2_gguf), endpoint)})
    reaped.append(child)
    assert child.stdin is not None
    await eventually(Path(endpoint.socket).exists)
    assert child.poll() is None
    child.stdin.close()
    child.stdin = None
    await gone(child.pid)


@pytest.mark.engine
def test_an_engine_that_cannot_be_made_says_why() -> None:
    child = runner({"settings": {"n_ctx_of_tomorrow": 1}})
    assert "error: " in said(child)
    assert child.returncode == 1
