"""OpenAI's own client at `/v1/responses`: the newest major version, and the one before in an environment of its own."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator

import pytest
from openai.resources.responses import Responses

from llamero.dialects.fields import read_body
from llamero.dialects.responses.reading import read
from llamero.errors import InvalidField
from tests.clients import responses_checks as checks
from tests.clients.older import run_checks
from tests.clients.responses_checks import CHECKS, SCRIPTED, Scene
from tests.server.puppet import Puppet, delta, end
from tests.server.puppet import call as engine_call

OLDER = "openai>=2,<3"

NUMBERS = {
    checks.a_response: "C-70",
    checks.a_stream_is_the_response: "C-75",
    checks.an_answer_that_is_cut_off: "C-79",
    checks.a_parsed_answer: "C-80",
    checks.a_conversation_that_is_kept: "C-83",
}


def let_speak_and_call(puppet: Puppet) -> None:
    use = engine_call(0, '{"city": "Paris"}', name="get_weather", id="call_1")
    puppet.plays(delta(content="Let me see."), use, end("tool_calls"))


@pytest.fixture
def scene(told: dict[str, str]) -> Iterator[Scene]:
    scene = Scene(told)
    yield scene
    scene.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check.__name__} {NUMBERS.get(check, '')}".strip())
def test_the_newest_version(scene: Scene, check: Callable[[Scene], None]) -> None:
    check(scene)


def test_text_and_then_a_call(scene: Scene, puppet: Puppet) -> None:
    """C-78: the wire is in `tests/server/test_responses_api.py`."""
    let_speak_and_call(puppet)
    checks.text_and_then_a_call(scene)


def test_every_field_that_the_client_can_send_is_known() -> None:
    """Honoured or refused by its name. A newer client that knows more makes this fail."""
    names = set(inspect.signature(Responses.create).parameters)
    assert len(names) > 25
    for name in sorted(names - {"self", "extra_headers", "extra_query", "extra_body", "timeout"}):
        try:
            told = read(read_body(json.dumps({"model": "m", "input": "x", name: {}}).encode())).request.warnings
        except InvalidField as error:
            told = (error.param,)
        assert not any(f"field {name!r} is unknown" in each for each in told), name


@pytest.mark.heavy
@pytest.mark.timeout(600)  # the first run installs
def test_the_version_before(
    told: dict[str, str], puppet_theatre: Puppet, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("older")
    run_checks(checks, OLDER, told, CHECKS, home)
    let_speak_and_call(puppet_theatre)
    run_checks(checks, OLDER, told, SCRIPTED, home)
