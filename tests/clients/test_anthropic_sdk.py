"""Anthropic's own client, of the newest major version, and of the one before in an environment of its own.

Its models, errors and headers are in `test_openai_sdk.py`, with those of OpenAI's.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator

import anthropic
import pytest

from llamero.dialects.anthropic.reading import read_messages
from llamero.errors import InvalidField
from tests.clients import anthropic_checks as checks
from tests.clients.anthropic_checks import CHECKS, SCRIPTED, Scene
from tests.clients.older import run_checks
from tests.server.puppet import Puppet, delta, end
from tests.server.puppet import call as engine_call

OLDER = "anthropic>=1,<2"

NUMBERS = {
    checks.a_message: "C-85 C-87",
    checks.a_stream_is_the_message: "C-97",
    checks.prompts_are_counted: "C-99 C-100",
    checks.a_parsed_answer: "C-101",
}


def let_alternate(puppet: Puppet) -> None:
    thoughts, words = (delta(reasoning_content=each) for each in "ac"), (delta(content=each) for each in "bd")
    use = engine_call(0, '{"city": "Paris"}', name="get_weather", id="a")
    puppet.plays(next(thoughts), next(words), next(thoughts), next(words), use, end("tool_calls"))


@pytest.fixture
def scene(told: dict[str, str]) -> Iterator[Scene]:
    scene = Scene(told)
    yield scene
    scene.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check.__name__} {NUMBERS.get(check, '')}".strip())
def test_the_newest_version(scene: Scene, check: Callable[[Scene], None]) -> None:
    check(scene)


def test_an_answer_in_any_order(scene: Scene, puppet: Puppet) -> None:
    """C-98: the wire is in `tests/server/test_anthropic.py`."""
    let_alternate(puppet)
    checks.an_answer_in_any_order(scene)


def test_every_field_that_the_client_can_send_is_known() -> None:
    """Honoured or refused by its name. A newer client that knows more makes this fail."""
    least = {"model": "m", "messages": checks.HI, "max_tokens": 1}
    names = set(inspect.signature(anthropic.resources.Messages.create).parameters)
    assert len(names) > 15
    for name in sorted(names - {"self", "extra_headers", "extra_query", "extra_body", "timeout"}):
        try:
            told = read_messages(json.dumps(least | {name: {}}).encode()).request.warnings
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
    let_alternate(puppet_theatre)
    run_checks(checks, OLDER, told, SCRIPTED, home)
