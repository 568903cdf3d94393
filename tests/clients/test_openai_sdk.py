"""OpenAI's own client, of the newest major version, and of the one before in an environment of its own."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import openai
import pytest

from llamero.dialects.openai.chat import read_chat
from llamero.dialects.openai.completions import read_completion
from llamero.dialects.openai.embeddings import read_embeddings
from llamero.errors import InvalidField
from tests.clients import openai_checks as checks
from tests.clients.older import run_checks
from tests.clients.openai_checks import CHECKS, Scene
from tests.clients.speakers import GO, call, thought
from tests.conftest import StartServer
from tests.parrot import write_parrot
from tests.running import Server
from tests.server.puppet import ABLE, Puppet, delta, end, last, piece
from tests.server.puppet import call as engine_call
from tests.server.tiny_models import make

OLDER = "openai>=2,<3"

NUMBERS = {
    checks.endpoints_that_are_not_there: "C-105",
    checks.a_parsed_answer: "C-36",
    checks.embeddings: "C-65",
}

NO_MORE = {"send": {"error": {"message": "no more", "code": 500}}}


def let_fail(puppet: Puppet) -> None:
    puppet.plays(delta(content="a"), delta(content="b"), NO_MORE, completion=[piece("a"), piece("b"), NO_MORE])


def let_call(puppet: Puppet) -> None:
    long = json.dumps({"city": "Llanfair" * 40})
    first, second = engine_call(0, long, name="get_weather", id="a"), engine_call(1, "{}", name="get_time", id="b")
    puppet.plays(first, second, end("tool_calls"), completion=[last()])


@pytest.fixture(scope="module")
def told(server: Server, puppet_theatre: Puppet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The servers and models that the checks are for."""
    folder = tmp_path_factory.mktemp("models")
    both = call("get_weather", city="Paris") + "\n" + call("get_time", zone="Paris")
    caller = write_parrot(folder / "caller.gguf", both, behind={"2": "So it rains."})
    thinker = write_parrot(folder / "thinker.gguf", thought("Thirty and three.", "It is 33."))
    return {
        "url": server.url,
        "puppet": puppet_theatre.server.url,
        "caller": make(server, "sdk-caller", [caller], template=GO),
        "thinker": make(server, "sdk-thinker", [thinker], template=GO),
        "old": "sdk/old:tag",
    }


@pytest.fixture
def scene(server: Server, told: dict[str, str]) -> Iterator[Scene]:
    make(server, told["old"], from_="smollm2:135m")
    scene = Scene(told)
    yield scene
    scene.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check.__name__} {NUMBERS.get(check, '')}".strip())
def test_the_newest_version(scene: Scene, check: Callable[[Scene], None]) -> None:
    check(scene)


def test_c57_streamed_calls(scene: Scene, puppet: Puppet) -> None:
    """C-57: what the client makes of them; the wire is in `tests/server/test_openai_chat.py`."""
    let_call(puppet)
    checks.streamed_calls(scene)


Read = Callable[[bytes], Any]


def told_of(read: Read, body: dict[str, Any]) -> tuple[str, ...]:
    """The warnings about a request, or the field for which it is refused."""
    try:
        return tuple(read(json.dumps(body).encode()).request.warnings)
    except InvalidField as error:
        return (error.param,)


@pytest.mark.parametrize(
    ("create", "read", "least"),
    [
        (openai.resources.chat.Completions.create, read_chat, {"messages": [{"role": "user", "content": "x"}]}),
        (openai.resources.Completions.create, read_completion, {"prompt": "x"}),
        (openai.resources.Embeddings.create, read_embeddings, {"input": "x"}),
    ],
    ids=["chat", "completions", "embeddings"],
)
def test_every_field_that_the_client_can_send_is_known(create: Any, read: Read, least: dict[str, Any]) -> None:
    """Honoured or refused by its name. A newer client that knows more makes this fail."""
    names = set(inspect.signature(create).parameters) - {"self"}
    assert len(names) > 5
    for name in sorted(names - {"extra_headers", "extra_query", "extra_body", "timeout"}):
        told = told_of(read, {"model": "m", **least, name: {}})
        assert not any("unknown" in each for each in told), name
    assert "unknown" in told_of(read, {"model": "m", **least, "zzz": {}})[0]


@pytest.mark.heavy
@pytest.mark.timeout(600)  # the first run installs
def test_the_version_before(
    server: Server, told: dict[str, str], puppet_theatre: Puppet, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("older")
    make(server, told["old"], from_="smollm2:135m")
    run_checks(checks, OLDER, told, CHECKS, home)
    for let, check in ((let_fail, checks.a_stream_that_fails), (let_call, checks.streamed_calls)):
        let(puppet_theatre)
        run_checks(checks, OLDER, told, [check], home)


# --- both dialects' clients ------------------------------------------------------------------------------------------

HI = [{"role": "user", "content": "Hi"}]
SMALL = "smollm2:135m"


@pytest.fixture
def claude(server: Server) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="any", max_retries=0) as client:
        yield client


def test_c01_any_key_will_do(server: Server, scene: Scene, claude: anthropic.Anthropic) -> None:
    """C-01: as header `x-api-key`, and as Bearer."""
    scene.client.chat.completions.create(model=SMALL, messages=HI, max_tokens=1)
    claude.messages.create(model=SMALL, messages=HI, max_tokens=1)
    with anthropic.Anthropic(base_url=server.url, auth_token="any", max_retries=0) as bearer:
        bearer.messages.create(model=SMALL, messages=HI, max_tokens=1)
    body = {"model": SMALL, "messages": HI, "max_tokens": 1}
    for path in ("/v1/chat/completions", "/v1/messages"):
        for headers in ({}, {"x-api-key": "any"}, {"Authorization": "Bearer any"}):
            assert server.post(path, body, headers=headers).status == 200


def test_c05_c06_models_that_are_not_there(scene: Scene, claude: anthropic.Anthropic) -> None:
    """C-05, C-06."""
    checks.models_that_are_not_there(scene)
    with pytest.raises(anthropic.NotFoundError) as caught:
        claude.messages.create(model="nope", messages=HI, max_tokens=1)
    assert caught.value.body["error"]["type"] == "not_found_error"
    assert "nope" in caught.value.message


def test_c09_every_request_has_an_id(scene: Scene, claude: anthropic.Anthropic) -> None:
    checks.requests_have_ids(scene)
    assert claude.messages.create(model=SMALL, messages=HI, max_tokens=1)._request_id
    with pytest.raises(anthropic.NotFoundError) as caught:
        claude.messages.create(model="nope", messages=HI, max_tokens=1)
    assert caught.value.body["request_id"] == caught.value.response.headers["request-id"]
    with pytest.raises(openai.NotFoundError) as other:
        scene.client.chat.completions.create(model="nope", messages=HI)
    assert other.value.request_id == other.value.response.headers["x-request-id"]


def test_c12_streams_that_fail(scene: Scene, puppet: Puppet) -> None:
    """C-12; how the wire ends is in `tests/server/test_compat_transport.py`."""
    let_fail(puppet)
    checks.a_stream_that_fails(scene)
    with anthropic.Anthropic(base_url=puppet.server.url, api_key="any", max_retries=0) as client:
        stream = client.messages.create(model=ABLE, messages=HI, max_tokens=9, stream=True)
        with stream, pytest.raises(anthropic.APIStatusError, match="no more"):
            list(stream)


def test_c18_c20_c21_c23_models(scene: Scene, server: Server) -> None:
    """C-18, C-20, C-21, C-23."""
    native = [model["model"] for model in server.get("/api/tags").json()["models"]]
    assert [model.id for model in scene.client.models.list()] == native
    make(server, "plain", from_=SMALL)
    shown = scene.client.models.retrieve("plain")
    listed = {model.id: model for model in scene.client.models.list()}
    assert (shown.id, shown.created) == ("plain", listed["plain:latest"].created)
    checks.listing_and_removing(scene)
    assert "sdk/old:tag" not in {model["name"] for model in server.get("/api/tags").json()["models"]}


def test_c22_anthropics_list(start_server: StartServer) -> None:
    server = start_server()
    make(server, "third", from_=SMALL)
    ids = [model["name"] for model in server.get("/api/tags").json()["models"]]
    with anthropic.Anthropic(base_url=server.url, api_key="any", max_retries=0) as client:
        paged = list(client.models.list(limit=1))
        assert [model.id for model in paged] == ids
        for model in paged:
            assert model.type == "model"
            assert model.display_name == model.id
            assert model.created_at.year >= 2026
        assert client.models.retrieve(SMALL).id == SMALL
