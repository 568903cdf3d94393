"""LoRA layers chosen by a request, on the real engine: a tiny llama and an adapter with recorded answers.

Source: native-api §3.22 (`adapters`); compat-api §1.3. The records are those of `tests/data/hf-tiny-lora`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from llamero.build.convert.adapter import convert_adapter
from llamero.build.convert.conversion import convert
from tests.build.convert.test_adapter import CONFIG, RECORDED, recorded, write_adapter
from tests.build.convert.tiny_decoder import DATA
from tests.running import Reply, Server
from tests.server.tiny_models import make

REFERENCE = json.loads((RECORDED / "reference.json").read_text())
PROMPT = REFERENCE["prompt_tokens"]
BASE = REFERENCE["base_next_token_top10"][0]["logprob"]
"""Of the likeliest token to follow the prompt."""
ADAPTED = REFERENCE["next_token_top10"][0]["logprob"]
"""The same with the adapter."""
TOLERANCE = 0.02


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`base.gguf`, the recorded adapter `full.gguf`, and `half.gguf`, which is half as strong."""
    folder = tmp_path_factory.mktemp("adapters")
    convert(DATA / "hf-tiny" / "llama", folder / "base.gguf")
    convert(DATA / "hf-tiny" / "mistral", folder / "other.gguf")
    for name, alpha in {"full": 8, "half": 4}.items():
        checkpoint = write_adapter(folder / name, recorded(), CONFIG | {"lora_alpha": alpha})
        convert_adapter(checkpoint, folder / "base.gguf", folder / f"{name}.gguf")
    return folder


def fill(server: Server, files: Path) -> None:
    """Models named as the files, all on the same weights but for `other`."""
    make(server, "base", [files / "base.gguf"])
    make(server, "other", [files / "other.gguf"])
    for name in ("full", "half"):
        content = (files / f"{name}.gguf").read_bytes()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert server.post(f"/api/blobs/{digest}", content).status in (200, 201)
        make(server, name, from_="base", adapters={f"{name}.gguf": digest})


@pytest.fixture(scope="module")
def adapted(server: Server, files: Path) -> Server:
    fill(server, files)
    return server


@pytest.fixture(autouse=True)
def nothing_is_loaded(adapted: Server) -> None:
    adapted.unload_all()


def complete(server: Server, model: str, adapters: Any = None, **more: Any) -> Reply:
    asked = {"model": model, "prompt": PROMPT, "max_tokens": 1, "temperature": 0, "logprobs": 1, "adapters": adapters}
    return server.post("/v1/completions", asked | more)


def logprob(reply: Reply) -> float:
    assert reply.status == 200, reply.body
    found: float = reply.json()["choices"][0]["logprobs"]["token_logprobs"][0]
    return found


FULL, HALF = {"model": "full", "scale": 1.0}, {"model": "half", "scale": 1.0}


@pytest.mark.parametrize(
    ("model", "adapters", "expected"),
    [
        pytest.param("base", None, BASE, id="none of its own"),
        pytest.param("base", [], BASE, id="none"),
        pytest.param("full", None, ADAPTED, id="its own"),
        pytest.param("full", [], BASE, id="its own left out"),
        pytest.param("base", [FULL], ADAPTED, id="another model's"),
        pytest.param("base", [{"model": "full"}], ADAPTED, id="at full strength unless told otherwise"),
        pytest.param("base", [FULL | {"scale": 0}], BASE, id="at no strength"),
        pytest.param("base", [HALF | {"scale": 2}], ADAPTED, id="at twice its strength"),
        pytest.param("full", [HALF | {"scale": 2}], ADAPTED, id="in place of its own"),
        pytest.param("base", [FULL | {"scale": 0.5}, HALF], ADAPTED, id="two at once"),
        pytest.param("full", [FULL | {"scale": 0.25}, FULL | {"scale": 0.75}], ADAPTED, id="one twice"),
        pytest.param("full", [FULL, HALF | {"scale": -2}], BASE, id="one against the other"),
    ],
)
def test_the_models_answer_is_that_of_the_layers(adapted: Server, model: str, adapters: Any, expected: float) -> None:
    assert logprob(complete(adapted, model, adapters)) == pytest.approx(expected, abs=TOLERANCE)


def test_taking_turns_every_request_has_its_own_layers(adapted: Server) -> None:
    """The engine keeps what it has read of a prompt, with whatever layers it read it."""
    turns: list[tuple[Any, float]] = [([FULL], ADAPTED), (None, BASE), ([], BASE), ([HALF | {"scale": 2}], ADAPTED)]
    for adapters, expected in [*turns, *turns, *turns[::-1]]:
        assert logprob(complete(adapted, "base", adapters)) == pytest.approx(expected, abs=TOLERANCE)


def test_a_prompt_that_was_read_long_ago_is_read_again_with_other_layers(adapted: Server) -> None:
    """The engine has a second cache, for the prompts that others took the place of; it forgets their layers."""
    complete(adapted, "base", [FULL])
    complete(adapted, "base", prompt=PROMPT[::-1])
    assert logprob(complete(adapted, "base")) == pytest.approx(BASE, abs=TOLERANCE)


def test_an_adapter_that_is_not_loaded_costs_one_reload(adapted: Server) -> None:
    def engine(model: str, adapters: Any = None) -> int:
        assert complete(adapted, model, adapters).status == 200
        (pid,) = adapted.engines()
        return pid

    bare = engine("base")
    assert engine("base", []) == bare
    first = engine("base", [FULL])
    assert first != bare
    assert {engine("base"), engine("base", []), engine("base", [FULL | {"scale": 3}])} == {first}
    both = engine("base", [HALF])
    assert both != first
    assert {engine("base", [FULL]), engine("base"), engine("base", [HALF, FULL])} == {both}


def test_side_by_side_every_request_has_its_own_layers(
    files: Path, tmp_path: Path, start_server: Callable[..., Server]
) -> None:
    server = start_server(models=tmp_path / "models", OLLAMA_NUM_PARALLEL="4")
    fill(server, files)
    kinds: list[tuple[Any, float]] = [
        ([FULL, HALF | {"scale": 0}], ADAPTED),
        (None, BASE),
        ([FULL], ADAPTED),
        ([], BASE),
    ]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda kind: complete(server, "base", kind[0]), kinds * 4))
    for reply, (_, expected) in zip(replies, kinds * 4, strict=True):
        assert logprob(reply) == pytest.approx(expected, abs=TOLERANCE)


# --- every route ---

WORDS = [{"role": "user", "content": "what then"}]
OPTIONS = {"options": {"temperature": 0, "num_predict": 8}, "stream": False}


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/api/generate", {"prompt": "what then"}, lambda reply: reply["response"]),
        ("/api/chat", {"messages": WORDS}, lambda reply: reply["message"]["content"]),
        ("/v1/chat/completions", {"messages": WORDS}, lambda reply: reply["choices"][0]["message"]["content"]),
        ("/v1/completions", {"prompt": "what then"}, lambda reply: reply["choices"][0]["text"]),
        ("/v1/responses", {"input": "what then"}, lambda reply: reply["output"][0]["content"][0]["text"]),
        ("/v1/messages", {"messages": WORDS, "max_tokens": 8}, lambda reply: reply["content"][0]["text"]),
    ],
)
def test_every_route_that_answers_takes_them(
    adapted: Server, path: str, body: dict[str, Any], text: Callable[[Any], str]
) -> None:
    own, same, none = (
        text(adapted.post(path, {"model": model, "adapters": adapters} | body | OPTIONS).json())
        for model, adapters in (("full", None), ("base", [FULL]), ("base", None))
    )
    assert own == same != none


def test_a_request_without_a_prompt_loads_them(adapted: Server) -> None:
    adapted.post("/api/generate", {"model": "base", "adapters": [FULL]})
    engines = adapted.engines()
    assert logprob(complete(adapted, "base", [FULL])) == pytest.approx(ADAPTED, abs=TOLERANCE)
    assert adapted.engines() == engines


def test_embeddings_cannot_have_them_and_say_so(adapted: Server) -> None:
    reply = adapted.post("/v1/embeddings", {"model": "all-minilm:22m", "input": "x", "adapters": [FULL]})
    assert reply.status == 200
    assert "adapters" in reply.headers["Llamero-Warning"]


# --- what is refused ---

WRONG = [
    pytest.param([{"model": "nope"}], 404, "model 'nope' not found", "model", id="no such model"),
    pytest.param([FULL, {"model": "base"}], 400, '"base" has no adapter', "adapters[1].model", id="none to take"),
    pytest.param(
        [{"model": "other"}], 400, 'adapter of "other" does not belong to "base"', "adapters[0].model", id="elsewhere"
    ),
    pytest.param([{"scale": 1}], 400, "adapters: each needs the name of a model", "adapters[0].model", id="unnamed"),
    pytest.param(
        [FULL | {"scale": 101}],
        400,
        "adapters: scale must be between -100 and 100",
        "adapters[0].scale",
        id="too strong",
    ),
    pytest.param([FULL] * 17, 400, "adapters: at most 16 can be used at once", "adapters", id="too many"),
]


@pytest.mark.parametrize(("adapters", "status", "message", "param"), WRONG)
def test_what_is_refused_before_anything_is_loaded(
    adapted: Server, adapters: Any, status: int, message: str, param: str
) -> None:
    v1 = complete(adapted, "base", adapters)
    assert (v1.status, v1.json()["error"]["message"], v1.json()["error"]["param"]) == (status, message, param)
    native = adapted.post("/api/generate", {"model": "base", "prompt": "x", "adapters": adapters})
    assert (native.status, native.error) == (status, message)
    assert adapted.loaded() == []


@pytest.mark.parametrize("adapters", [5, "full", {}, ["full"], [{"model": 5}], [{"model": "full", "scale": "1"}]])
def test_wrong_types_are_refused(adapted: Server, adapters: Any) -> None:
    v1 = complete(adapted, "base", adapters)
    assert v1.status == 400
    assert v1.json()["error"]["param"].startswith("adapters")
    native = adapted.post("/api/chat", {"model": "base", "messages": [], "adapters": adapters})
    assert (native.status, "adapters" in native.error) == (400, True)


def test_the_strongest_scale_leaves_the_engine_alive(adapted: Server) -> None:
    assert complete(adapted, "base", [FULL | {"scale": 100}]).status == 200
    assert logprob(complete(adapted, "base")) == pytest.approx(BASE, abs=TOLERANCE)
