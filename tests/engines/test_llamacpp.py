"""From a load plan to a process that answers, and to nothing at all afterwards (scheduler §10, §11)."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llamero.config import KV_CACHE_TYPES, Settings
from llamero.engines import AdapterFile, Endpoint, LoadPlan, Placement
from llamero.engines.devices import Gpu
from llamero.engines.llamacpp import MAX_ERROR_CHARS, LlamaCpp, LlamaCppSettings, arguments, parameters
from llamero.errors import LoadFailed, OutOfMemory, TemplateRefused
from llamero.options import merge_options
from llamero.scheduler.facts import ModelFacts
from llamero.scheduler.plan import Defaults, Machine, want
from tests.engines.starting import (
    ENV,
    eventually,
    fake_engine,
    fake_plan,
    fake_settings,
    folder_of,
    gone,
    plan_of,
    real_engine,
    running,
)
from tests.fake_llama_server import install, read_record
from tests.gguf_files import tiny_llama
from tests.running import children, command_line, is_running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

SOCKET = Endpoint("secret", socket="/run/e.sock")
TWO_CARDS = ("CUDA0", "CUDA1")
PLAN = LoadPlan(key="k", model=Path("/m.gguf"), ctx_tokens=2048)

QUICK_S = 2.0
"""What is to happen at once, not after a time limit."""


def flags_of(**plan: Any) -> list[str]:
    return arguments(replace(PLAN, **plan), SOCKET)


def groups(flags: list[str]) -> list[list[str]]:
    """Each flag with its values."""
    found: list[list[str]] = []
    for word in flags:
        if word.startswith("-"):
            found.append([word])
        else:
            found[-1].append(word)
    return found


def has(flags: list[str], wanted: str) -> bool:
    return all(group in groups(flags) for group in groups(wanted.split()))


# --- the plan as flags (scheduler §10.1), and as the wheel's parameters ---------------------------------------------


@pytest.mark.parametrize(
    ("plan", "flags"),
    [
        pytest.param({}, "--model /m.gguf --host /run/e.sock -c 2048 -np 1 -b 512 -ub 512 --cache-ram 0", id="always"),
        pytest.param({}, "--no-webui --offline --no-slots --no-log-prefix --no-log-timestamps", id="switched off"),
        pytest.param({}, "--log-verbosity 4", id="the lines about memory"),
        pytest.param({"slots": 3, "batch_tokens": 64}, "-c 6144 -np 3 -b 64 -ub 64", id="slots multiply the context"),
        pytest.param({"cache_ram_mib": 7}, "--cache-ram 7", id="bound of the prompt cache"),
        pytest.param({"flash_attention": True}, "--flash-attn on", id="partly R-43 on"),
        pytest.param({"flash_attention": False}, "--flash-attn off", id="partly R-43 off"),
        pytest.param({"flash_attention": None}, "--flash-attn auto", id="partly R-43 automatic"),
        pytest.param({"kv_type": "q8_0"}, "--cache-type-k q8_0 --cache-type-v q8_0", id="K/V type"),
        pytest.param({"use_mmap": False}, "--load-mode none", id="partly R-45 mmap off"),
        pytest.param({"gpu_layers": 0}, "-ngl 0", id="no layers on the GPU"),
        pytest.param({"gpu_layers": 12}, "-ngl 12", id="some"),
        pytest.param({"threads": 3}, "-t 3", id="threads"),
        pytest.param({"placement": Placement(gpus=("CUDA1",))}, "--split-mode none --main-gpu 0", id="one GPU"),
        pytest.param(
            {"placement": Placement(gpus=TWO_CARDS), "main_gpu": 5}, "--main-gpu 5", id="one that there is not"
        ),
        pytest.param({"embedding": True}, "--embedding --kv-unified --slot-prompt-similarity 0", id="an embedder"),
        pytest.param(
            {"embedding": True, "slots": 32, "pool_tokens": 4096}, "-c 4096 -np 32", id="slots that share one cache"
        ),
        pytest.param({"reranking": True}, "--reranking --kv-unified", id="one that ranks"),
        pytest.param(
            {"ctx_tokens": 300}, "-c 300 --kv-unified --kv-unified-per-slot 300", id="a window of its own size"
        ),
        pytest.param({"keep_tokens": 5}, "--context-shift --keep 5", id="context shift"),
        pytest.param({"projectors": (Path("/p"), Path("/q"))}, "--mmproj /p", id="the first projector"),
        pytest.param(
            {"projectors": (Path("/p"),), "placement": Placement(projector_on_gpu=False)},
            "--mmproj /p --no-mmproj-offload",
            id="it stays on the CPU",
        ),
        pytest.param({"adapters": (Path("/a"), Path("/b"))}, "--lora /a --lora /b", id="adapters in their order"),
        pytest.param(
            {"adapters": (Path("/b"),), "extra_adapters": (AdapterFile(Path("/a"), 1),)},
            "--lora /b --lora /a",
            id="others' adapters behind its own",
        ),
        pytest.param({"chat_template": "{{m}}"}, "--jinja --chat-template {{m}}", id="another chat template"),
        pytest.param(
            {"speculation": "ngram", "draft_tokens": 16, "match_tokens": 8},
            "--spec-type ngram-simple --spec-ngram-simple-size-n 8 --spec-ngram-simple-size-m 16",
            id="repeated text",
        ),
        pytest.param(
            {"speculation": "draft", "draft_tokens": 4, "draft_model": Path("/d")},
            "--spec-type draft-simple --spec-draft-n-max 4 --spec-draft-model /d",
            id="a draft model",
        ),
        pytest.param(
            {"speculation": "draft", "draft_tokens": 4, "draft_model": Path("/d"), "gpu_layers": 0},
            "--spec-draft-model /d --spec-draft-ngl 0",
            id="it stays on the CPU as well",
        ),
        pytest.param(
            {"speculation": "mtp", "draft_tokens": 2},
            "--spec-type draft-mtp --spec-draft-n-max 2 --spec-draft-backend-sampling",
            id="layers that look ahead",
        ),
        pytest.param(
            {"speculation": "dflash", "draft_tokens": 8, "draft_model": Path("/d")},
            "--spec-type draft-dflash --spec-draft-n-max 8 --spec-draft-model /d",
            id="a model of blocks",
        ),
    ],
)
def test_flags(plan: dict[str, Any], flags: str) -> None:
    assert has(flags_of(**plan), flags)


@pytest.mark.parametrize(
    ("plan", "absent"),
    [
        pytest.param(
            {}, "-ngl -t --split-mode --main-gpu --cache-type-k --load-mode --mmproj --lora --keep", id="unset"
        ),
        pytest.param(
            {},
            "--embedding --reranking --kv-unified --slot-prompt-similarity --no-mmproj-offload --port",
            id="nor these",
        ),
        pytest.param({"context_shift": False, "keep_tokens": 4}, "--context-shift --keep", id="no context shift"),
        pytest.param({}, "--spec-type --spec-draft-n-max --spec-draft-model", id="no speculation"),
        pytest.param(
            {"speculation": "mtp", "draft_tokens": 2, "gpu_layers": 0},
            "--spec-draft-model --spec-draft-ngl",
            id="the model's own layers are no file",
        ),
        pytest.param(
            {"speculation": "draft", "draft_tokens": 4, "draft_model": Path("/d")},
            "--spec-draft-ngl --spec-draft-backend-sampling --spec-ngram-simple-size-n",
            id="a draft model on the GPU",
        ),
        pytest.param({"projectors": (Path("/p"),)}, "--no-mmproj-offload", id="the projector on the GPU"),
    ],
)
def test_flags_that_are_left_out(plan: dict[str, Any], absent: str) -> None:
    assert not set(absent.split()) & set(flags_of(**plan))


async def test_a_chat_template_in_place_of_the_files_own(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(tiny_llama({"tokenizer.chat_template": "the file's own"}))
    question = {"messages": [{"role": "user", "content": "Hi"}]}
    for template, prompt in (("", "the file's own"), ("{% for m in messages %}<{{ m.content }}>{% endfor %}", "<Hi>")):
        async with real_engine(model, chat_template=template) as engine:
            assert await engine.wire.apply_template(question) == prompt


def test_an_endpoint_behind_a_port() -> None:
    flags = arguments(PLAN, Endpoint("secret", port=4711))
    assert has(flags, "--host 127.0.0.1 --port 4711")
    assert parameters(PLAN, Endpoint("secret", port=4711))["port"] == 4711


def test_the_secret_is_no_flag() -> None:
    """Everybody can read a process's arguments."""
    assert SOCKET.secret not in " ".join(flags_of())


@pytest.mark.parametrize(("text", "sent"), [("1", "on"), ("0", "off"), ("", "auto"), ("random", "on")])
def test_flash_attention_from_the_environment(text: str, sent: str) -> None:
    """Partly R-43: any other text counts as true."""
    setting = Settings.from_env({"OLLAMA_FLASH_ATTENTION": text}).flash_attention
    assert has(flags_of(flash_attention=setting), f"--flash-attn {sent}")


@pytest.mark.parametrize("kind", KV_CACHE_TYPES)
def test_r44_kv_cache_type_from_the_environment(kind: str) -> None:
    """R-44: on both flags, lower-cased."""
    setting = Settings.from_env({"OLLAMA_KV_CACHE_TYPE": kind.upper()}).kv_cache_type
    assert has(flags_of(kv_type=setting), f"--cache-type-k {kind} --cache-type-v {kind}")


def test_r44_an_unknown_kv_cache_type_is_ignored_with_a_warning() -> None:
    """R-44, the other half."""
    settings = Settings.from_env({"OLLAMA_KV_CACHE_TYPE": "q3_k"})
    assert any("OLLAMA_KV_CACHE_TYPE" in warning for warning in settings.warnings)
    assert "--cache-type-k" not in flags_of(kv_type=settings.kv_cache_type)


GPU_MACHINE = Machine(ram_available_bytes=2**35, ram_total_bytes=2**35, gpus=(Gpu("CUDA0", "a card", 2**35, 2**35),))


@pytest.mark.engine
async def test_r39_nothing_on_the_gpu(smollm2_gguf: Path) -> None:
    """R-39: `num_gpu: 0` means no layers, no mapping, the projector on the CPU, and no GPU memory in the end."""
    facts = ModelFacts(key="k", path=smollm2_gguf, size_bytes=1, projectors=(Path("/p.gguf"),))
    plan = want(facts, merge_options({"num_gpu": 0, "num_ctx": 512}), None, GPU_MACHINE, Defaults()).plan
    assert has(arguments(plan, SOCKET), "-ngl 0 --load-mode none --no-mmproj-offload")
    settings = parameters(plan, SOCKET)
    assert (settings["n_gpu_layers"], settings["load_mode"]) == (0, "LLAMA_LOAD_MODE_NONE")
    assert settings["mmproj_use_gpu"] is False
    async with running(replace(plan, projectors=()), LlamaCppSettings(env=ENV)) as engine:
        assert engine.memory.vram_bytes == 0


async def test_a_foreign_program_gets_the_plan_as_its_flags(tmp_path: Path) -> None:
    async with fake_engine(tmp_path, plan={"slots": 2, "kv_type": "q8_0"}) as engine:
        assert read_record(tmp_path, "argv") == [arguments(engine.plan, engine.endpoint)]


USER_ENV = {**ENV, "CUDA_VISIBLE_DEVICES": "2,3", "HIP_VISIBLE_DEVICES": "1", "OMP_NUM_THREADS": "2"}


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        pytest.param((), {"CUDA_VISIBLE_DEVICES": "2,3", "HIP_VISIBLE_DEVICES": "1"}, id="as we do"),
        pytest.param((("CUDA_VISIBLE_DEVICES", "3"),), {"CUDA_VISIBLE_DEVICES": "3"}, id="one card"),
        pytest.param(
            (("CUDA_VISIBLE_DEVICES", "-1"), ("ROCR_VISIBLE_DEVICES", "1")),
            {"CUDA_VISIBLE_DEVICES": "-1", "ROCR_VISIBLE_DEVICES": "1"},
            id="of another library",
        ),
    ],
)
async def test_an_engine_sees_the_cards_that_it_is_to_use(
    tmp_path: Path, visible: tuple[tuple[str, str], ...], seen: dict[str, str]
) -> None:
    """R-36, R-37: the plan's variables take the place of the user's, which they were chosen from."""
    settings = replace(fake_settings(tmp_path), env=USER_ENV)
    async with running(replace(fake_plan(tmp_path), placement=Placement(visible=visible)), settings):
        assert read_record(tmp_path, "gpus") == [seen]


async def test_what_it_takes_of_each_card_is_known_by_our_names(tmp_path: Path) -> None:
    """It counts the cards that it sees from 0."""
    names = "CUDA0 CUDA1_Mapped CUDA1 CUDA7 CPU".split()
    lines = [f"load_tensors: {name} model buffer size = {n}.00 MiB" for n, name in enumerate(names, 1)]
    place = Placement(gpus=("CUDA2", "CUDA5"))
    async with fake_engine(tmp_path, {"prints": lines}, plan={"placement": place}) as engine:
        assert engine.memory.gpus == (("CUDA2", 2**20), ("CUDA5", 5 * 2**20), ("CUDA7", 4 * 2**20))


# --- until it is ready ---------------------------------------------------------------------------------------------


async def failure_of(folder: Path, script: dict[str, Any], **settings: Any) -> LoadFailed:
    """The error of a load that fails, after which nothing must be left."""
    with pytest.raises(LoadFailed) as caught:
        await LlamaCpp.start(fake_plan(folder), fake_settings(folder, script, **settings))
    nothing_is_left(folder)
    return caught.value


def socket_folder(folder: Path) -> Path:
    """The private folder of the one engine that was started."""
    (argv,) = read_record(folder, "argv")
    return Path(argv[argv.index("--host") + 1]).parent


def nothing_is_left(folder: Path) -> None:
    # another test's server may be a child of ours as well
    assert not [pid for pid in children(os.getpid()) if not command_line(pid).rstrip().endswith("serve")]
    assert not socket_folder(folder).exists()
    (folder / "record").unlink()


async def test_it_is_ready_when_it_says_so(tmp_path: Path) -> None:
    async with fake_engine(tmp_path, {"prints": [0.1], "loading": 5}) as engine:
        assert await engine.wire.health(QUICK_S) == "ok"


async def test_complaints_that_it_got_over_are_forgotten(tmp_path: Path) -> None:
    async with fake_engine(tmp_path, {"prints": ["error: no GPU", 0.05]}) as engine:
        assert engine.last_error == ""


async def test_r51_silence_is_what_runs_out(tmp_path: Path) -> None:
    """R-51: a load may take longer than the limit as long as it goes on talking; then the text of §10.3."""
    talkative = {"prints": [word for n in range(8) for word in (f"line {n}", 0.1)]}
    started = time.monotonic()
    async with fake_engine(tmp_path, talkative, load_timeout_s=0.5):
        assert time.monotonic() - started > 0.8
    (tmp_path / "record").unlink()
    for script, last_word in (
        ({"prints": ["error: slow disk", "reading"], "loading": -1}, "error: slow disk"),
        ({"prints": ["reading"], "listens": False}, "reading"),
    ):
        error = await failure_of(tmp_path, script, load_timeout_s=0.6)
        assert str(error) == f"timed out waiting for llama-server to start - {last_word}"


async def test_reading_the_weights_in_silence_is_no_silence(tmp_path: Path) -> None:
    """The wheel prints nothing while it loads: a large file on a slow disk was given up. It is progress, too."""
    shares: list[float] = []
    settings = fake_settings(tmp_path, {"reads_mib": 2}, load_timeout_s=0.5)
    plan = fake_plan(tmp_path)
    os.truncate(plan.model, 100 * 2**20)
    async with running(plan, settings, progress=shares.append):
        pass
    assert len(shares) > 5
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] <= 0.99


async def test_growing_for_ever_is_no_progress(tmp_path: Path) -> None:
    """A chat template that writes without end takes in more and more, long after the weights are read."""
    error = await failure_of(tmp_path, {"reads_mib": 2}, load_timeout_s=0.3)
    assert str(error).startswith("timed out waiting for llama-server to start")


async def test_without_a_limit_it_is_waited_for(tmp_path: Path) -> None:
    async with fake_engine(tmp_path, {"loading": 20}, load_timeout_s=None) as engine:
        assert engine.alive


@pytest.mark.parametrize(
    ("script", "text"),
    [
        pytest.param(
            {"prints": ["loading", "error loading model: bad magic", "bye"], "dies": 1},
            "llama-server process has terminated: exit status 1: error loading model: bad magic",
            id="says why",
        ),
        pytest.param(
            {"prints": ["one", "two", "three", "four"], "dies": 3},
            "llama-server process has terminated: exit status 3: two\nthree\nfour",
            id="its last lines",
        ),
        pytest.param({"prints": [], "dies": 1}, "llama-server process has terminated: exit status 1", id="silent"),
        pytest.param({"prints": [], "dies": -9}, "llama-server process has terminated: signal: killed", id="killed"),
        pytest.param(
            {"prints": ["0.00.022.210 E ggml: broken", "0.00.022.210 I ggml: fine"], "dies": 1},
            "llama-server process has terminated: exit status 1: ggml: broken",
            id="its own level of error",
        ),
    ],
)
async def test_an_engine_that_dies_while_loading(tmp_path: Path, script: dict[str, Any], text: str) -> None:
    error = await failure_of(tmp_path, script)
    assert (type(error), str(error), error.status) == (LoadFailed, text, 500)


async def test_an_error_shows_no_path_and_no_address(tmp_path: Path) -> None:
    """Partly X-90: neither where models lie, not even with blanks in it, nor where the engine was built."""
    folder = tmp_path / "my models"
    folder.mkdir()
    lines = [
        f"error: failed to load '{folder}/model.gguf'",
        "/project/ggml/src/ggml.c:12: GGML_ASSERT(x) failed",
        "error: bad pointer 0x7ffe12345678, 3/4 done, and/or not",
    ]
    error = await failure_of(folder, {"prints": lines, "dies": 1})
    assert str(error).split(": ", 2)[2].splitlines() == [
        "error: failed to load 'model.gguf'",
        "ggml.c:12: GGML_ASSERT(x) failed",
        "error: bad pointer , 3/4 done, and/or not",
    ]


async def test_a_long_story_of_errors_loses_its_beginning(tmp_path: Path) -> None:
    lines = [f"error: {n} {'x' * 100}" for n in range(200)]
    error = await failure_of(tmp_path, {"prints": lines, "dies": 1})
    assert len(str(error)) <= MAX_ERROR_CHARS + 100
    assert f"error: 199 {'x' * 100}" in str(error)
    assert "error: 0 " not in str(error)


async def test_a_chat_template_that_the_engine_cannot_use(tmp_path: Path) -> None:
    """Known by its kind, so that another can take its place, whatever words the template puts into the message."""
    lines = ["E srv init: chat template parsing error: out of memory", "x" * 2 * MAX_ERROR_CHARS, "error: exiting"]
    error = await failure_of(tmp_path, {"prints": lines, "dies": 1})
    assert type(error) is TemplateRefused


OOM = "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 9000.00 MiB: cudaMalloc failed: out of memory"
OOM_TOO = "ggml_gallocr_reserve_n: failed to allocate CUDA0 buffer of size 9437184000"
RETRY = "llama_context: compute buffer allocation failed, retrying without pipeline parallelism"


@pytest.mark.parametrize(
    "script",
    [{"prints": [OOM], "dies": 1}, {"prints": [OOM], "listens": False}, {"prints": [OOM], "loading": -1}],
    ids=["and dies", "and hangs", "and says that it loads"],
)
async def test_a_model_that_does_not_fit(tmp_path: Path, script: dict[str, Any]) -> None:
    """Known by its kind, so that the scheduler can make room; at once, not when the patience ends."""
    started = time.monotonic()
    error = await failure_of(tmp_path, script, load_timeout_s=None)
    assert type(error) is OutOfMemory
    assert str(error).endswith(f": {OOM}")
    assert time.monotonic() - started < QUICK_S


@pytest.mark.parametrize("pause_s", [0.0, 0.1])
async def test_r50_an_engine_that_tries_again_with_less_is_waited_for(tmp_path: Path, pause_s: float) -> None:
    """R-50: however a look at its output falls between the lines."""
    script = {"prints": [OOM, pause_s, OOM_TOO, pause_s, RETRY, 0.4], "loading": 3}
    async with fake_engine(tmp_path, script) as engine:
        assert engine.alive


async def test_r50_when_that_fails_too_it_does_not_fit(tmp_path: Path) -> None:
    error = await failure_of(tmp_path, {"prints": [OOM, RETRY, 0.3, OOM_TOO], "dies": 1})
    assert type(error) is OutOfMemory
    assert str(error).endswith(f"exit status 1: {OOM_TOO}")


@pytest.mark.parametrize("listens", [False, True], ids=["before it listens", "while it says that it loads"])
async def test_a_load_that_is_given_up_leaves_nothing(tmp_path: Path, listens: bool) -> None:
    settings = fake_settings(tmp_path, {"listens": listens, "loading": -1})
    load = asyncio.create_task(LlamaCpp.start(fake_plan(tmp_path), settings))
    await eventually(lambda: read_record(tmp_path, "argv"))
    assert socket_folder(tmp_path).exists()
    load.cancel()
    with pytest.raises(asyncio.CancelledError):
        await load
    nothing_is_left(tmp_path)


# --- what cannot be started ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["no-such-llama-server", "./no/such/llama-server", "/etc/passwd"])
async def test_a_program_that_is_none(tmp_path: Path, program: str) -> None:
    with pytest.raises(LoadFailed, match=f"^error starting llama-server: no program '{Path(program).name}'$"):
        await LlamaCpp.start(fake_plan(tmp_path), LlamaCppSettings(env=ENV, program=program))


async def test_a_relative_program_is_meant_from_our_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path)
    monkeypatch.chdir(tmp_path)
    async with running(fake_plan(tmp_path), LlamaCppSettings(env=ENV, program="./llama-server")) as engine:
        assert engine.alive


async def test_a_program_of_the_search_path(tmp_path: Path) -> None:
    install(tmp_path)
    env = {"PATH": f"{tmp_path}{os.pathsep}{os.defpath}"}
    async with running(fake_plan(tmp_path), LlamaCppSettings(env=env, program="llama-server")) as engine:
        assert engine.alive


async def test_a_model_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match=r"^error starting llama-server: No such file or directory$"):
        await LlamaCpp.start(plan_of(tmp_path / "none.gguf"), fake_settings(tmp_path))


async def test_a_temporary_folder_with_a_long_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket's path is short by law."""
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    async with fake_engine(tmp_path) as engine:
        assert await engine.wire.tokenize("x") == [1, 2, 3]


# --- what a running engine has, and leaves --------------------------------------------------------------------------


async def test_stopping_ends_all_it_started_and_may_be_repeated(tmp_path: Path) -> None:
    """The fake ignores the polite signals."""
    async with fake_engine(tmp_path, {"spawns": True}) as engine:
        (grandchild,) = children(engine.pid)
        await engine.stop()
        assert not engine.alive
        assert await engine.exited == -signal.SIGKILL
        await gone(grandchild)
        await engine.stop()


async def test_its_last_words(tmp_path: Path) -> None:
    async with fake_engine(tmp_path) as engine:
        os.kill(engine.pid, signal.SIGKILL)
        await engine.exited
        assert engine.last_error == "signal: killed"


async def test_a_clients_mistake_is_not_among_them(tmp_path: Path) -> None:
    """Partly X-89: the words of one client are for nobody else, and say nothing about the engine."""
    mistakes = [
        "0.00.176.487 E srv    send_error: task id = 0, error: failed to parse CANARY",
        '0.00.786.041 W srv    operator(): got exception: {"error":{"message":"Error: CANARY"}}',
        "0.00.454.466 E llg error: at 2(8): failed to compile JSON schema: CANARY",
    ]
    steps = [*({"print": line} for line in mistakes), {"print": "error: CUDA gone"}, {"die": 1}]
    async with fake_engine(tmp_path, {"replies": {"/tokenize": steps}}) as engine:
        with pytest.raises(Exception, match="CUDA gone"):
            await engine.wire.tokenize("x")
        assert engine.last_error == "error: CUDA gone"


async def test_the_log_names_model_and_process_and_no_prompt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Partly R-71, partly X-89."""
    caplog.set_level(logging.DEBUG, "llamero")
    async with fake_engine(tmp_path) as engine:
        await engine.wire.tokenize("CANARY")
    assert f"engine started pid={engine.pid} model=model.gguf" in caplog.messages
    assert f"engine stopped pid={engine.pid} model=model.gguf" in caplog.messages
    assert "CANARY" not in caplog.text
    assert engine.endpoint.secret not in caplog.text


def raw_request(path: str, method: str, target: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
    """One request over a unix socket, without any of our code."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(path)
        data = b"" if body is None else json.dumps(body).encode()
        head = {"Host": "x", "Connection": "close", "Content-Length": str(len(data)), **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        connection.sendall(f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode() + data)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, response.read()


def listening_ports(pid: int) -> list[str]:
    """Local addresses on which a process accepts TCP connections."""
    inodes = {
        target[8:-1] for fd in Path(f"/proc/{pid}/fd").iterdir() if (target := os.readlink(fd)).startswith("socket:[")
    }
    rows = [
        line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()
    ]
    return [row[1] for row in rows if row[3] == "0A" and row[9] in inodes]


@pytest.mark.engine
async def test_nobody_else_can_drive_it(smollm2_gguf: Path) -> None:
    """Partly X-92: a socket in a folder of our own, no answer without the secret, and what we do not use is off."""
    async with real_engine(smollm2_gguf) as engine:
        path, bearer = engine.endpoint.socket, {"Authorization": f"Bearer {engine.endpoint.secret}"}
        assert stat.S_IMODE(folder_of(engine).stat().st_mode) == 0o700
        assert folder_of(engine).stat().st_uid == os.geteuid()
        assert listening_ports(engine.pid) == []
        asked = {"prompt": "x", "n_predict": 1}
        assert (await asyncio.to_thread(raw_request, path, "POST", "/completion", asked))[0] == 401
        wrong = {"Authorization": "Bearer x"}
        assert (await asyncio.to_thread(raw_request, path, "POST", "/completion", asked, **wrong))[0] == 401
        assert (await asyncio.to_thread(raw_request, path, "POST", "/completion", asked, **bearer))[0] == 200
        for method, target in (
            ("POST", "/props"),
            ("GET", "/slots"),
            ("GET", "/metrics"),
            ("POST", "/slots/0?action=save"),
        ):
            status, _ = await asyncio.to_thread(raw_request, path, method, target, {}, **bearer)
            assert status == 501, target


CANARIES = {
    "LLAMERO_API_KEY": "CANARY",
    "OLLAMA_API_KEY": "CANARY",
    "HF_TOKEN": "CANARY",
    "AWS_SECRET_ACCESS_KEY": "CANARY",
    "GGML_SECRET": "CANARY",
    "HTTPS_PROXY": "http://user:CANARY@proxy",
    "LLAMA_API_KEY": "CANARY",
}


def process_file(pid: int, name: str) -> list[str]:
    """The entries of `environ` or `cmdline`."""
    return Path(f"/proc/{pid}/{name}").read_text().rstrip("\0").split("\0")


@pytest.mark.engine
async def test_it_sees_none_of_our_secrets(smollm2_gguf: Path) -> None:
    """Partly X-89: of all keys, it gets the one that was made for it."""
    env = Settings.from_env({**CANARIES, "PATH": os.defpath, "HOME": "/root", "OMP_NUM_THREADS": "2"}).engine_env
    async with running(plan_of(smollm2_gguf), LlamaCppSettings(env=env)) as engine:
        found = dict(entry.split("=", 1) for entry in process_file(engine.pid, "environ"))
        assert "CANARY" not in str(found)
        folder = str(folder_of(engine))
        assert found.pop("LLAMA_API_KEY") == engine.endpoint.secret
        assert found == {
            "PATH": os.defpath,
            "HOME": folder,
            "TMPDIR": folder,
            "OMP_NUM_THREADS": "2",
            "GOMP_SPINCOUNT": "300",
            "GGML_NO_BACKTRACE": "1",
        }
        assert engine.endpoint.secret not in str(process_file(engine.pid, "cmdline"))
        assert os.readlink(f"/proc/{engine.pid}/cwd") == folder


async def test_each_engine_has_a_secret_of_its_own(tmp_path: Path) -> None:
    secrets = []
    for _ in range(2):
        async with fake_engine(tmp_path) as engine:
            secrets.append(engine.endpoint.secret)
    assert secrets[0] != secrets[1]
    assert all(len(secret) >= 32 for secret in secrets)


@pytest.mark.engine
async def test_the_real_engine_tells_what_it_took(smollm2_gguf: Path) -> None:
    """Partly R-68: its lines are read as they really are; a context twice as long costs its K/V cache more."""
    uses = []
    for ctx_tokens in (512, 1024):
        async with real_engine(smollm2_gguf, ctx_tokens=ctx_tokens) as engine:
            uses.append(engine.memory)
            assert engine.last_error == ""
    assert all(90 * 2**20 < use.total_bytes < 180 * 2**20 and use.vram_bytes == 0 for use in uses)
    layers, kv_heads, head, k_and_v, f16_bytes = 30, 3, 64, 2, 2
    assert uses[1].total_bytes - uses[0].total_bytes >= 512 * layers * kv_heads * head * k_and_v * f16_bytes


@pytest.mark.engine
async def test_a_damaged_file_says_what_is_wrong_with_it(smollm2_gguf: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF" + b"\xff" * 1000)
    with pytest.raises(LoadFailed, match="this GGUF file is version 4294967295") as caught:
        await LlamaCpp.start(plan_of(damaged), LlamaCppSettings(env=ENV))
    assert type(caught.value) is LoadFailed
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(LoadFailed, match="failed to load lora adapter"):
        await LlamaCpp.start(plan_of(smollm2_gguf, adapters=(damaged,)), LlamaCppSettings(env=ENV))


# --- when we are killed --------------------------------------------------------------------------------------------

PARENT = """
import asyncio, sys
from pathlib import Path
import uvloop
from llamero.engines import LoadPlan
from llamero.engines.llamacpp import LlamaCpp, LlamaCppSettings

async def main(model, program):
    plan = LoadPlan(key="k", model=Path(model), ctx_tokens=512)
    engine = await LlamaCpp.start(plan, LlamaCppSettings(env={}, program=program))
    print(engine.pid, flush=True)
    await engine.exited

{loop}.run(main(*sys.argv[1:]))
"""


async def leaves_no_engine(loop: str, model: Path, program: Path | None = None) -> None:
    argv = [sys.executable, "-c", PARENT.replace("{loop}", loop), str(model), str(program or "")]
    with tempfile.TemporaryDirectory() as folder:  # short enough for a socket, and what is left in it is removed
        env = {**os.environ, "TMPDIR": folder}
        parent = await asyncio.create_subprocess_exec(*argv, env=env, stdout=subprocess.PIPE)
        assert parent.stdout is not None
        engine = int(await parent.stdout.readline())
        assert is_running(engine)
        parent.kill()
        await parent.wait()
        await gone(engine)


@pytest.mark.engine
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_killed_parent_leaves_no_engine(smollm2_gguf: Path, loop: str) -> None:
    """X-93, one half: it cannot clean up, so the kernel does."""
    await leaves_no_engine(loop, smollm2_gguf)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_killed_parent_leaves_no_foreign_engine(tmp_path: Path, loop: str) -> None:
    """X-93, one half: the death signal outlives the change of program."""
    await leaves_no_engine(loop, fake_plan(tmp_path).model, install(tmp_path))


@pytest.mark.engine
async def test_a_killed_engine_is_noticed_and_replaced(smollm2_gguf: Path) -> None:
    """X-93, the other half: it takes nobody along."""
    async with real_engine(smollm2_gguf) as engine:
        os.kill(engine.pid, signal.SIGKILL)
        assert await asyncio.wait_for(engine.exited, QUICK_S) == -signal.SIGKILL
        assert not engine.alive
    async with real_engine(smollm2_gguf) as engine:
        assert await engine.wire.tokenize("x")
