"""Which models a key may use that is for some only, and what it gets to see (security §6.3).

The key `only` is for `m`, and for `own`, `chained` and `deep:v1`, of which the last two are made from `n`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llamero.errors import Forbidden, ModelNotFound
from llamero.names import ModelName
from llamero.server.caller import Caller, caller
from llamero.server.shelf import Shelf
from llamero.store import Store
from tests import model_folders
from tests.gguf_files import tiny_llama
from tests.running import Reply
from tests.server.keyed import Keyed

HI = [{"role": "user", "content": "Hi"}]


@contextmanager
def calling(*models: str) -> Iterator[None]:
    token = caller.set(Caller(key="k", rights="infer", models=models))
    try:
        yield
    finally:
        caller.reset(token)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """`b` is made from `a`, `c` from `b`; `round` and `about` from one another; `filed` from a path, `gone` from what
    is no more; and of `mixed` only the template is from `a`."""
    made = {"a": "", "b": "a:latest", "c": "b:latest", "round": "about", "about": "round", "filed": "/x/y", "gone": "z"}
    for name, base in made.items():
        model_folders.add(tmp_path, name, tiny_llama(), from_name=base)
    model_folders.add(tmp_path, "mixed", tiny_llama())
    template = model_folders.layer(tmp_path, f"{model_folders.IMAGE}template", b"{{ .Prompt }}", "a:latest")
    path = model_folders.manifest_path(tmp_path, "mixed")
    path.write_text(path.read_text().replace('"layers":[', f'"layers":[{str(template).replace(chr(39), chr(34))},'))
    return Shelf(Store(tmp_path))


@pytest.mark.parametrize(
    ("listed", "usable"),
    [
        pytest.param((), "a about b c filed gone mixed round", id="no list"),
        pytest.param(("a",), "a", id="the base"),
        pytest.param(("b",), "", id="X-50 only what is made from it"),
        pytest.param(("a", "b"), "a b", id="both"),
        pytest.param(("b", "c"), "", id="X-50 the base of the base"),
        pytest.param(("a", "c"), "a", id="X-50 what is between"),
        pytest.param(("A:LATEST", "registry.ollama.ai/library/b"), "a b", id="other spellings"),
        pytest.param(("a:other", "ns/b"), "", id="other models of the name"),
        pytest.param(("round",), "", id="a circle"),
        pytest.param(("round", "about"), "about round", id="all of a circle"),
        pytest.param(("filed", "gone"), "filed", id="bases that are not there"),
        pytest.param(("mixed",), "", id="X-50 a base of one layer"),
    ],
)
def test_what_a_list_lets_use(shelf: Shelf, listed: tuple[str, ...], usable: str) -> None:
    with calling(*listed):
        assert sorted(each.name.model for each in shelf.list()) == usable.split()
        for name in "a b c round about filed gone mixed".split():
            if name in usable.split():
                assert shelf.resolve(ModelName.parse(name)).name.model == name
                with shelf.using(ModelName.parse(name)):
                    pass
            else:
                with pytest.raises(Forbidden):
                    shelf.resolve(ModelName.parse(name))
                with pytest.raises(Forbidden), shelf.using(ModelName.parse(name)):
                    pass


def test_what_is_not_listed_is_forbidden_whether_it_is_there_or_not(shelf: Shelf) -> None:
    with calling("missing"):
        with pytest.raises(ModelNotFound):
            shelf.resolve(ModelName.parse("missing"))
        told = []
        for name in ("b", "nothing"):
            with pytest.raises(Forbidden) as refused:
                shelf.resolve(ModelName.parse(name))
            told.append(str(refused.value).replace(f"{name}:", "?:"))
        assert told == ["forbidden: this API key is not for model '?:latest'"] * 2


# --- over HTTP -----------------------------------------------------------------------------------------------------


def ask_every_route(keyed: Keyed, model: str) -> dict[str, Reply]:
    bodies = {
        "/api/generate": {"model": model, "prompt": "Hi", "stream": False},
        "/api/chat": {"model": model, "messages": HI, "stream": False},
        "/api/embed": {"model": model, "input": "Hi"},
        "/api/embeddings": {"model": model, "prompt": "Hi"},
        "/api/rerank": {"model": model, "query": "Hi", "documents": ["a"]},
        "/api/tokenize": {"model": model, "text": "Hi"},
        "/api/detokenize": {"model": model, "tokens": [1]},
        "/api/show": {"model": model},
        "/v1/chat/completions": {"model": model, "messages": HI},
        "/v1/completions": {"model": model, "prompt": "Hi"},
        "/v1/embeddings": {"model": model, "input": "Hi"},
        "/v1/rerank": {"model": model, "query": "Hi", "documents": ["a"]},
        "/v1/responses": {"model": model, "input": "Hi"},
        "/v1/responses ": {"model": model, "input": "Hi", "background": True},
        "/v1/responses/input_tokens": {"model": model, "input": "Hi"},
        "/v1/messages": {"model": model, "messages": HI, "max_tokens": 5},
        "/v1/messages/count_tokens": {"model": model, "messages": HI},
    }
    replies = {path: keyed.post("only", path.strip(), body) for path, body in bodies.items()}
    parts = [f'name="model"\r\n\r\n{model}', 'name="file"; filename="a.wav"\r\n\r\nRIFF']
    form = "".join(f"--b\r\nContent-Disposition: form-data; {part}\r\n" for part in parts) + "--b--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    audio = keyed.call("only", "POST", "/v1/audio/transcriptions", form.encode(), **headers)
    return replies | {"/v1/audio/transcriptions": audio, "/v1/models": keyed.get("only", f"/v1/models/{model}")}


@pytest.mark.parametrize("model", ["n", "chained", "deep:v1", "nothing"])
def test_x50_every_route_that_takes_a_model(keyed: Keyed, model: str) -> None:
    """X-50: neither a model that is not listed, nor one that is made from it."""
    for path, reply in ask_every_route(keyed, model).items():
        if path == "/v1/audio/transcriptions" and reply.status == 400:
            assert "forbidden" not in reply.body.decode()  # a recording is looked at first
            continue
        assert reply.status == 403, (path, reply.body)
        assert "API key is not for" in reply.body.decode(), path
        assert str(keyed.server.models) not in reply.body.decode(), path


def test_what_is_listed_can_be_used(keyed: Keyed) -> None:
    keyed.plays()
    for model in ("m", "own", "M:latest"):
        replies = ask_every_route(keyed, model)
        for path in ("/api/generate", "/api/chat", "/api/show", "/v1/chat/completions", "/v1/messages", "/v1/models"):
            assert replies[path].status == 200, (path, replies[path].body)


def test_only_what_a_key_may_use_is_listed(keyed: Keyed) -> None:
    keyed.plays()
    for model in ("m", "n"):
        assert keyed.post("root", "/api/generate", {"model": model}).status == 200
    lists = {
        "/api/tags": lambda reply: [each["name"] for each in reply.json()["models"]],
        "/api/ps": lambda reply: [each["name"] for each in reply.json()["models"]],
        "/v1/models": lambda reply: [each["id"] for each in reply.json()["data"]],
        "/v2/_catalog": lambda reply: [name.removeprefix("library/") for name in reply.json()["repositories"]],
    }
    seen = {path: set(names(keyed.get("only", path))) for path, names in lists.items()}
    assert seen == {
        "/api/tags": {"m:latest", "own:latest"},
        "/api/ps": {"m:latest"},
        "/v1/models": {"m:latest", "own:latest"},
        "/v2/_catalog": {"m", "own"},
    }
    everything = {path: len(names(keyed.get("alice", path))) for path, names in lists.items()}
    assert everything == {"/api/tags": 5, "/api/ps": 2, "/v1/models": 5, "/v2/_catalog": 5}
    anthropic = keyed.get("only", "/v1/models", **{"anthropic-version": "2023-06-01"}).json()
    assert {each["id"] for each in anthropic["data"]} == {"m:latest", "own:latest"}


def test_a_share_gives_a_key_its_own_models_only(keyed: Keyed) -> None:
    """partly X-102."""

    def layers(key: str, model: str) -> list[str]:
        reply = keyed.get(key, f"/v2/library/{model}/manifests/latest")
        return [layer["digest"] for layer in reply.json()["layers"]] if reply.status == 200 else []

    (foreign,) = layers("alice", "n")
    assert layers("only", "n") == layers("only", "chained") == []
    for digest in layers("only", "m"):
        assert keyed.get("only", f"/v2/library/m/blobs/{digest}").status == 200
    assert keyed.get("alice", f"/v2/library/n/blobs/{foreign}").status == 200
    for model in ("n", "m"):
        assert keyed.get("only", f"/v2/library/{model}/blobs/{foreign}").status == 404
    assert keyed.get("", "/v2/library/m/manifests/latest").status == 401
