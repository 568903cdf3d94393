"""What the examples of the official JavaScript client do, told again in `js/`, and run by Node with the real package.

The first run fetches the packages. Where it matters who renders the prompts and reads the answers, both ways are gone.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.clients.speakers import WAYS, Way, call, make_speaker, thought
from tests.conftest import CACHE
from tests.parrot import write_parrot
from tests.running import Server
from tests.server.tiny_models import make

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="needs Node.js and npm"),
]

SCRIPTS = Path(__file__).with_name("js")
PACKAGES = ["ollama@^0.6.0", "zod@^3.25.0", "zod-to-json-schema@^3.24.0"]
M = "smollm2:135m"
RUN_TIMEOUT_S = 60

RunScript = Callable[..., Any]
MakeSpeaker = Callable[..., str]


@pytest.fixture(scope="session")
def run_script(server: Server) -> RunScript:
    """Run a script of `js/` against the server; gives what it prints. Node finds packages above a script only."""
    folder = CACHE.with_name("test-npm")
    if not (folder / "node_modules" / "ollama").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--prefix", folder, *PACKAGES], check=True)
    shutil.copytree(SCRIPTS, folder, dirs_exist_ok=True)

    def run(name: str, *arguments: str | Path) -> Any:
        command = ["node", folder / f"{name}.mjs", server.url, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT_S)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module", params=WAYS)
def speaker(request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory) -> MakeSpeaker:
    way: Way = request.param
    return partial(make_speaker, server, tmp_path_factory.mktemp("speakers"), way)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "cat.jpg"
    Image.radial_gradient("L").resize((64, 48)).save(path)
    return path


def test_tools(run_script: RunScript, speaker: MakeSpeaker) -> None:
    """A call's message goes back once for each of its calls, and no result says which tool it is of."""
    calls = call("subtractTwoNumbers", a=3, b=1) + "\n" + call("addTwoNumbers", a=2, b=2)
    model = speaker("js-clerk", calls, after_2="Two and four.")
    ran = run_script("tools", model)
    assert [message.get("content") for message in ran["messages"]][1:] == ["", "2", "", "4"]
    assert (ran["answer"], ran["reason"]) == ("Two and four.", "stop")


def test_tools_until_there_is_an_answer(run_script: RunScript, speaker: MakeSpeaker) -> None:
    model = speaker(
        "js-weatherman",
        thought("London is first.", call("getTemperature", city="London")),
        after_1=thought("Toronto is next.", call("getConditions", city="Toronto")),
        after_2=thought("Done.", "Nine degrees, and snow."),
    )
    rounds = run_script("tools_streamed", model)
    assert [made["thinking"].strip() for made in rounds] == ["London is first.", "Toronto is next.", "Done."]
    assert [made["content"] for made in rounds] == ["", "", "Nine degrees, and snow."]
    assert [made["calls"] for made in rounds] == [
        [["getTemperature", {"city": "London"}]],
        [["getConditions", {"city": "Toronto"}]],
        [],
    ]


def test_thinking(run_script: RunScript, speaker: MakeSpeaker) -> None:
    model = speaker(
        "js-thinker",
        "unasked",
        at_low=thought("Hm.", "33"),
        at_medium=thought("Well, thirty and three.", "It is 33."),
        at_high=thought("Oh!", "= 33"),
    )
    ran = run_script("thinking", model)
    assert (ran["whole"]["thinking"].strip(), ran["whole"]["content"]) == ("Well, thirty and three.", "It is 33.")
    assert "".join(thinking for thinking, _ in ran["parts"]) == ran["whole"]["thinking"]
    assert "".join(text for _, text in ran["parts"]) == "It is 33."
    assert not any(thinking and text for thinking, text in ran["parts"])
    assert {level: text.strip() for level, text in ran["levels"].items()} == {
        "low": "Hm.",
        "medium": "Well, thirty and three.",
        "high": "Oh!",
    }
    assert ran["generated"] == [ran["whole"]["thinking"], "It is 33."]


def test_structured_outputs(run_script: RunScript, tiny_vision: str, picture: Path) -> None:
    """`$schema`, `additionalProperties: false`, nullable enums and records, as zod's generators write them."""
    ran = run_script("structured_outputs", M, tiny_vision, picture)
    assert ran["old"]["friends"]
    assert ran["young"]["friends"]
    assert ran["seen"]["time_of_day"] in ("Morning", "Afternoon", "Evening", "Night")


def test_abort(run_script: RunScript, server: Server) -> None:
    ran = run_script("abort", M)
    assert ran["endings"] == ["AbortError", "whole", "AbortError"]
    assert (ran["aborted"], ran["parts"]) == (3, 2)
    assert (ran["last"]["done_reason"], ran["last"]["eval_count"]) == ("length", 40)


def test_the_rest(run_script: RunScript, server: Server, tiny_vision: str, picture: Path, tmp_path: Path) -> None:
    path = write_parrot(tmp_path / "js-coder.gguf", "a, b):\n    c = a + b<EOT> and more")
    template = "{{ if .Suffix }}<PRE> {{ .Prompt }} <SUF>{{ .Suffix }} <MID>{{ end }}"
    coder = make(server, "js-coder", [path], template=template)
    ran = run_script("generate", coder, tiny_vision, M, picture)
    assert ran["filled"] == "a, b):\n    c = a + b"
    assert "insert" in ran["capabilities"]
    assert len(set(ran["seen"])) == 1
    assert "".join(entry["token"] for entry in ran["logprobs"]) == ran["said"]
    assert {len(entry["top_logprobs"]) for entry in ran["logprobs"]} == {3}
    assert ran["refused"] == {
        "name": "ResponseError",
        "status_code": 400,
        "message": f'"{M}" does not support thinking',
    }
    assert ran["status"] == ["success", "success"]
    assert ran["running"]
