"""Official clients at a server with API keys: with the right key, a wrong one, one of the role infer, and none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
import pytest

from tests.clients.test_js_examples import PACKAGES, SCRIPTS
from tests.conftest import CACHE
from tests.running import OLLAMA, clean_environment
from tests.server.keyed import Keyed, keyed_server, secret

WRONG = "no-key-of-this-server"
"""All tests together show it ten times: for the eleventh in a minute there is another status."""
GO_CLIENT = "github.com/ollama/ollama/api@v0.17.4"
HI: Any = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    with keyed_server(tmp_path_factory.mktemp("clients")) as started:
        yield started


@pytest.mark.parametrize("key", ["root", "alice"])
def test_c16_openais_client(keyed: Keyed, key: str) -> None:
    """C-16, with the test below."""
    with openai.OpenAI(base_url=f"{keyed.server.url}/v1", api_key=secret(key), max_retries=0) as client:
        assert client.chat.completions.create(model="m", messages=HI).choices[0].message.content == "Hello there"
        assert client.responses.create(model="m", input="Hi").output_text == "Hello there"
        assert len(list(client.models.list())) == 5


def test_c16_openais_client_with_a_wrong_key(keyed: Keyed) -> None:
    """C-16."""
    with openai.OpenAI(base_url=f"{keyed.server.url}/v1", api_key=WRONG, max_retries=0) as client:
        for ask in (lambda: client.chat.completions.create(model="m", messages=HI), client.models.list):
            with pytest.raises(openai.AuthenticationError) as refused:
                ask()
            assert refused.value.code == "invalid_api_key"


@pytest.mark.parametrize("form", ["api_key", "auth_token"])
def test_c16_anthropics_client(keyed: Keyed, form: str) -> None:
    """C-16: the client sends the one as `x-api-key` or as a bearer token, by its version, the other as the latter."""
    url = keyed.server.url
    with anthropic.Anthropic(base_url=url, max_retries=0, **{form: secret("alice")}) as client:
        message = client.messages.create(model="m", messages=HI, max_tokens=9)
        assert [block.text for block in message.content if block.type == "text"] == ["Hello there"]
        assert len(list(client.models.list())) == 5
    with anthropic.Anthropic(base_url=url, max_retries=0, **{form: WRONG}) as client:
        with pytest.raises(anthropic.AuthenticationError) as refused:
            client.messages.create(model="m", messages=HI, max_tokens=9)
        assert refused.value.response.json()["error"]["type"] == "authentication_error"


def test_x48_the_official_python_client(keyed: Keyed, monkeypatch: pytest.MonkeyPatch) -> None:
    """X-48, with the test below."""
    monkeypatch.setenv("OLLAMA_API_KEY", secret("alice"))
    client = ollama.Client(keyed.server.url)
    with closing(client._client):
        assert client.chat("m", HI).message.content == "Hello there"
        assert [part.message.content for part in client.chat("m", HI, stream=True)][:2] == ["Hello", " there"]
        assert client.show("m").license == "MIT, of somebody"
        assert len(client.list().models) == 5
        with pytest.raises(ollama.ResponseError) as refused:
            client.delete("own")
        assert (refused.value.status_code, refused.value.error) == (403, "forbidden")
    monkeypatch.setenv("OLLAMA_API_KEY", secret("root"))
    admin = ollama.Client(keyed.server.url)
    with closing(admin._client):
        admin.copy("m", "copied")
        admin.delete("copied")
    for given in (WRONG, ""):
        monkeypatch.setenv("OLLAMA_API_KEY", given)
        stranger = ollama.Client(keyed.server.url)
        with closing(stranger._client), pytest.raises(ollama.ResponseError) as refused:
            stranger.list()
        assert refused.value.status_code == 401


@pytest.mark.heavy
@pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="needs Node.js and npm")
def test_x48_the_official_javascript_client(keyed: Keyed, tmp_path: Path) -> None:
    """X-48."""
    folder = CACHE.with_name("test-npm")
    if not (folder / "node_modules" / "ollama").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--prefix", folder, *PACKAGES], check=True)
    shutil.copytree(SCRIPTS, folder, dirs_exist_ok=True)

    def told(*given: str, **env: str) -> Any:
        command = ["node", folder / "keyed.mjs", keyed.server.url, *given]
        environment = clean_environment(tmp_path, **env)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    used = dict.fromkeys(("list", "chat", "streamed", "show"), 200)
    assert told(secret("alice")) == used | {"copy": 403}
    assert told(secret("root")) == used | {"copy": 200}
    assert set(told(WRONG).values()) == {401}
    assert set(told().values()) == {401}


@pytest.mark.heavy
@pytest.mark.timeout(600)  # the first run fetches and compiles
@pytest.mark.skipif(not shutil.which("go"), reason="needs a Go toolchain")
def test_x48_the_official_go_client(keyed: Keyed) -> None:
    """X-48."""
    folder = CACHE.with_name("test-go")
    places = {"GOPATH": str(folder / "path"), "GOCACHE": str(folder / "cache"), "GOFLAGS": "-mod=mod -modcacherw"}
    environment = {**os.environ, **places}
    program = folder / "keyed"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy2(Path(__file__).with_name("go") / "keyed.go", folder)
    commands = [["build", "-o", program, "."]]
    if not (folder / "go.mod").exists():
        commands = [["mod", "init", "keyed"], ["get", GO_CLIENT], *commands]
    for words in commands:
        subprocess.run(["go", *words], cwd=folder, env=environment, check=True, capture_output=True)

    def told(key: str) -> Any:
        command = [program, keyed.server.url, key]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
        return json.loads(done.stdout)

    used = {"list": 200, "chat": 200, "said": "Hello there", "show": 200}
    assert told(secret("alice")) == used | {"copy": 403}
    assert told(secret("root")) == used | {"copy": 200}


def test_our_own_command_line(keyed: Keyed, tmp_path: Path) -> None:
    def run(api_key: str, *argv: str) -> tuple[int, str]:
        env = clean_environment(tmp_path, OLLAMA_HOST=keyed.server.host, OLLAMA_API_KEY=api_key)
        done = subprocess.run([OLLAMA, *argv], capture_output=True, text=True, env=env, timeout=60)
        return done.returncode, done.stdout + done.stderr

    several = f"guest=infer:{secret('alice')}, house=admin:{secret('root')}"
    for key in (several, secret("root")):
        status, listed = run(key, "key", "list")
        assert (status, len(listed.splitlines())) == (0, 8)
    assert run(secret("alice"), "list")[0] == 0
    assert run(secret("alice"), "key", "list") == (1, "Error: forbidden\n")
    status, said = run("", "list")
    assert (status, "OLLAMA_API_KEY" in said) == (1, True)
