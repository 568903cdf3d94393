"""POST /api/pull of a real server, from registries in this process (native-api §3.14; store-registry §3; security §10).

Mirrors, neighbours, policies and starters are in `test_pull_sources.py`.
"""

from __future__ import annotations

import gzip
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests import model_folders
from tests.gguf_files import tiny_llama
from tests.model_folders import tree
from tests.registry.model_registry import Answer, ModelRegistry, digest_of, layer, manifest
from tests.running import Reply, Server, running

NOWHERE = {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}
"""Nobody listens there: whoever asks the public registry is refused at once, and no test leaves this machine."""

PULLING, VERIFYING, WRITING, REMOVING, SUCCESS = (
    {"status": status}
    for status in (
        "pulling manifest",
        "verifying sha256 digest",
        "writing manifest",
        "removing unused layers",
        "success",
    )
)
EIGHT_TIB = 8 << 40
"""The largest layer that a manifest may have."""
MIB = 1 << 20

_numbers = count()


@pytest.fixture(scope="module")
def registry() -> Iterator[ModelRegistry]:
    with ModelRegistry() as started:
        yield started


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("puller")
    with running(folder, folder / "models", **NOWHERE) as started:
        yield started


@pytest.fixture
def name() -> str:
    """A repository of this test's own."""
    return f"library/m{next(_numbers)}"


@pytest.fixture
def weights() -> bytes:
    return os.urandom(200_000)


def pull(server: Server, model: str, **fields: Any) -> Reply:
    return server.post("/api/pull", {"model": model} | fields)


def lines(server: Server, model: str, **fields: Any) -> list[Any]:
    """What a pull says, without the lines in the middle of a layer."""
    reply = pull(server, model, **fields)
    assert (reply.status, reply.content_type) == (200, "application/x-ndjson")
    return [line for line in reply.lines() if not 0 < line.get("completed", 0) < line.get("total", 0)]


def error(server: Server, model: str, **fields: Any) -> str:
    """How a pull fails: a second line, and nothing after it."""
    said = lines(server, model, **fields)
    assert said[0] == PULLING
    assert list(said[-1]) == ["error"]
    return str(said[-1]["error"])


def progress(digest: str, total: int, *, begins: bool = True) -> list[Any]:
    line = {"status": f"pulling {digest[7:19]}", "digest": digest, "total": total}
    return [line] * begins + [line | {"completed": total}]


def stored(server: Server, name: str) -> Path:
    return model_folders.manifest_path(server.models, name)


def blob(server: Server, digest: str) -> Path:
    return server.models / "blobs" / digest.replace(":", "-")


# --- what is said --------------------------------------------------------------------------------------------------


def test_s26_n118_the_lines_of_a_pull(server: Server, registry: ModelRegistry, name: str, weights: bytes) -> None:
    """S-26, N-118: each layer begins without `completed` and ends with all of it, the config last."""
    model = registry.add(f"{name}:latest", weights, template="{{ .Prompt }}", config=b'{"model_format":"gguf"}')
    config, template_and_weights = model.digests[0], model.digests[1:]
    assert lines(server, f"http://{registry.host}/{name}") == [
        PULLING,
        *progress(template_and_weights[0], len(weights)),
        *progress(template_and_weights[1], len("{{ .Prompt }}")),
        *progress(config, len('{"model_format":"gguf"}')),
        VERIFYING,
        WRITING,
        SUCCESS,
    ]
    reply = pull(server, f"http://{registry.host}/{name}", stream=False)
    assert (reply.status, reply.content_type, reply.body) == (200, "application/json", b'{"status":"success"}')


def test_s27_what_is_there_is_not_asked_for(server: Server, registry: ModelRegistry, name: str, weights: bytes) -> None:
    model = registry.add(f"{name}:latest", weights, license="MIT")
    pull(server, f"http://{registry.host}/{name}")
    before = len(registry.paths)
    assert lines(server, f"http://{registry.host}/{name}") == [
        PULLING,
        *progress(model.digests[1], len(weights), begins=False),
        *progress(model.digests[2], 3, begins=False),
        *progress(model.digests[0], 2, begins=False),
        VERIFYING,
        WRITING,
        SUCCESS,
    ]
    assert registry.paths[before:] == [f"/v2/{name}/manifests/latest"]


def test_s20_the_manifest_is_kept_byte_for_byte(server: Server, registry: ModelRegistry, name: str) -> None:
    """S-20: odd spacing, unknown keys, escapes and all."""
    model = registry.add(f"{name}:latest", b"w")
    document = json.loads(model.raw) | {"annotations": {"é\u2028": 1.50}, "unknown": [None]}
    raw = b"\r\n  " + json.dumps(document, indent=3, ensure_ascii=True).replace('"layers"', '"la\\u0079ers"').encode()
    registry.put(f"{name}:latest", raw + b"\n\n ")
    assert lines(server, f"http://{registry.host}/{name}")[-1] == SUCCESS
    assert stored(server, f"{registry.host}/{name}").read_bytes() == raw + b"\n\n "


def test_s28_s42_n119_what_a_registry_refuses(server: Server, registry: ModelRegistry, name: str) -> None:
    """S-28, S-42, N-119: the request says what it accepts; refusals are a second line, or unstreamed a status 500."""
    missing = "pull model manifest: file does not exist"
    assert lines(server, f"http://{registry.host}/{name}") == [PULLING, {"error": missing}]
    assert registry.asked[-1].headers["accept"].startswith("application/vnd.docker.distribution.manifest.v2+json")
    reply = pull(server, f"http://{registry.host}/{name}", stream=False)
    assert (reply.status, reply.content_type, reply.json()) == (500, "application/json", {"error": missing})
    registry.answers[f"/v2/{name}/manifests/new"] = Answer(412, b"this model needs a newer version of Ollama:\n\nhttps")
    assert error(server, f"http://{registry.host}/{name}:new") == (
        "pull model manifest: 412: this model needs a newer version of Ollama: https"
    )


HOSTILE = b"\x1b[2J\x1b]0;owned\x07 gone\r\n[GIN] 2026/01/01 | 200 | admin \xe2\x80\xae\xc2\x9b31m\x00\xff"


def test_hostile_words_of_a_registry_are_plain_when_they_arrive(
    server: Server, registry: ModelRegistry, name: str
) -> None:
    registry.answers[f"/v2/{name}/manifests/latest"] = Answer(500, HOSTILE)
    said = error(server, f"http://{registry.host}/{name}")
    assert said == "pull model manifest: 500: [2J ]0;owned gone [GIN] 2026/01/01 | 200 | admin 31m \ufffd"
    log = server.log.read_text()
    assert f"{name}:latest: {said}" in log
    assert not any(character in log for character in "\x1b\x07\u202e\x9b\0")


def test_a_page_instead_of_a_manifest(server: Server, registry: ModelRegistry, name: str) -> None:
    page = Answer(200, b"<!doctype html><title>Sign in to the hotel's network</title>", {"Content-Type": "text/html"})
    registry.answers[f"/v2/{name}/manifests/latest"] = page
    assert error(server, f"http://{registry.host}/{name}") == "pull model manifest: invalid manifest: not JSON"


def test_fields_that_mean_nothing_are_named(server: Server, registry: ModelRegistry, name: str) -> None:
    registry.add(f"{name}:latest", b"w")
    reply = pull(server, f"http://{registry.host}/{name}", quantize="q4", username="u", password="secret-of-u")
    assert reply.headers.get_all("Llamero-Warning") == ["field 'quantize' is unknown and has no effect"]
    assert reply.lines()[-1] == SUCCESS
    assert "secret-of-u" not in server.log.read_text()


# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "text"),
    [
        ("POST", "/api/pull", {}, 400, "invalid model name"),
        ("POST", "/api/pull", {"model": "  "}, 400, "invalid model name"),
        ("POST", "/api/pull", {"name": "a/b/c/d/e"}, 400, "invalid model name"),
        ("POST", "/api/pull", {"model": "../m"}, 400, "invalid model name"),
        ("POST", "/api/pull", {"model": "https://user:secret@h/n/m"}, 400, "invalid model name"),
        ("POST", "/api/pull", {"model": f"m@sha256:{'0' * 63}"}, 400, "invalid digest format"),
        ("POST", "/api/pull", {"model": f"../m@sha256:{'0' * 64}"}, 400, "invalid model name"),
        ("POST", "/api/pull", {"model": "m", "as": "a b"}, 400, "invalid model name"),
        ("POST", "/api/pull", {"model": "m", "from_peer": "box"}, 400, "from_peer is no http:// or https:// URL"),
        ("POST", "/api/pull", None, 400, "missing request body"),
        ("POST", "/api/copy", {"source": "../m", "destination": "n"}, 400, 'source "../m" is invalid'),
        ("POST", "/api/copy", {"source": "m", "destination": "a b"}, 400, 'destination "a b" is invalid'),
        ("DELETE", "/api/delete", {"model": "../m"}, 400, 'name "../m" is invalid'),
        ("DELETE", "/api/delete", {}, 400, "model is required"),
    ],
)
def test_s07_names_that_are_none(server: Server, method: str, path: str, body: Any, status: int, text: str) -> None:
    """S-07: pull, copy and delete say it in their own words."""
    reply = server.call(method, path, body)
    assert (reply.status, reply.error) == (status, text)


def test_s06_a_cloud_name_means_the_stored_stub(server: Server, registry: ModelRegistry) -> None:
    """S-06"""
    registry.add("library/gpt-oss:20b-cloud", b"w")
    registry.add("library/qwen3:cloud", b"w")
    for typed, path in (("gpt-oss:20b:cloud", "gpt-oss:20b-cloud"), ("qwen3:cloud", "qwen3:cloud")):
        assert lines(server, f"http://{registry.host}/library/{typed}")[-1] == SUCCESS
        assert stored(server, f"{registry.host}/library/{path}").exists()
        assert server.call("DELETE", "/api/delete", {"model": f"{registry.host}/library/{typed}"}).status == 200
        assert not stored(server, f"{registry.host}/library/{path}").exists()
    both = pull(server, "foo:cloud:local")
    assert (both.status, both.error) == (400, 'use either :local or :cloud, not both: "foo:cloud:local"')


def test_s05_one_model_whatever_the_letters(server: Server, registry: ModelRegistry) -> None:
    """S-05: create, pull and copy in other letters meet the model that is there."""
    host, weights = registry.host, tiny_llama()
    digest = digest_of(weights)
    assert server.post(f"/api/blobs/{digest}", weights).status == 201
    created = {"model": f"{host}/library/Foo:TAG", "files": {"m.gguf": digest}}
    assert server.post("/api/create", created).lines()[-1] == SUCCESS
    registry.add("library/Foo:TAG", weights, license="MIT")
    assert lines(server, f"http://{host}/library/foo:tag")[-1] == SUCCESS
    again = {"model": f"{host}/library/fOO:tAG", "files": {"m.gguf": digest}, "system": "Be brief."}
    assert server.post("/api/create", again).lines()[-1] == SUCCESS
    copied = server.post("/api/copy", {"source": f"{host}/library/foo:Tag", "destination": f"{host}/Library/FOO:tag"})
    assert copied.status == 200
    found = [path.relative_to(server.models).parts[-3:] for path in server.models.glob("manifests/*/*/*/[tT]*")]
    assert found == [("library", "Foo", "TAG")]


def test_a_name_with_a_digest_is_that_manifest_or_none(
    server: Server, registry: ModelRegistry, name: str, weights: bytes
) -> None:
    old = registry.add(f"{name}:latest", weights)
    new = registry.add(f"{name}:latest", weights, license="MIT")
    model = f"http://{registry.host}/{name}"
    for pinned in (old, new, old):
        assert lines(server, f"{model}@{pinned.digest}")[-1] == SUCCESS
        assert stored(server, f"{registry.host}/{name}").read_bytes() == pinned.raw
    registry.answers[f"/v2/{name}/manifests/{old.digest}"] = Answer(200, new.raw)
    assert error(server, f"{model}@{old.digest}") == (
        f"pull model manifest: manifest digest mismatch: want {old.digest}, got {new.digest}"
    )
    unknown = f"sha256:{'0' * 64}"
    assert error(server, f"{model}@{unknown}") == "pull model manifest: file does not exist"
    assert stored(server, f"{registry.host}/{name}").read_bytes() == old.raw


def test_a_model_may_get_a_name_of_its_own_and_still_be_updated(
    server: Server, registry: ModelRegistry, name: str, weights: bytes
) -> None:
    registry.add(f"{name}:latest", weights)
    given = {"as": f"mine-{name[8:]}"}
    assert lines(server, f"http://{registry.host}/{name}", **given)[-1] == SUCCESS
    assert not stored(server, f"{registry.host}/{name}").exists()
    new = registry.add(f"{name}:latest", weights, license="MIT")
    updated = server.post("/api/llamero/update", {"models": [given["as"]]}).lines()
    assert {line["status"] for line in updated if line.get("subject")} == {"updated: 1 new layer, 3 B"}
    assert stored(server, given["as"]).read_bytes() == new.raw


# --- what is asked, and who may be asked ---------------------------------------------------------------------------


@contextmanager
def first_bytes() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """A port that hangs up on everybody, and the first words that somebody said there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def heard() -> bytes:
            connection, _ = listener.accept()
            listener.close()  # whoever tries again is refused
            with connection:
                return connection.recv(64)

        with ThreadPoolExecutor(1) as threads:
            yield f"127.0.0.1:{listener.getsockname()[1]}", threads.submit(heard).result


@pytest.mark.parametrize(
    ("scheme", "insecure", "begins"),
    [("", False, b"\x16\x03"), ("https://", False, b"\x16\x03")]
    + [(scheme, True, b"GET /v2/library/m/manifests/latest HTTP/1.1\r\n") for scheme in ("", "https://", "http://")]
    + [("http://", False, b"GET /v2/library/m/manifests/latest HTTP/1.1\r\n")],
)
def test_s08_insecure_is_plain_http(server: Server, scheme: str, insecure: bool, begins: bytes) -> None:
    """S-08: without it a registry hears TLS, unless the name of a host nearby says http itself."""
    with first_bytes() as (host, heard):
        pull(server, f"{scheme}{host}/library/m", insecure=insecure)
        assert heard().startswith(begins)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("169.254.169.254/latest/meta-data", "169.254.169.254:443 is a reserved address"),
        ("http://169.254.169.254/latest/meta-data", "169.254.169.254:80 is a reserved address"),
        ("169.254.1.1:80/n/m", "169.254.1.1:80 is a reserved address"),
        ("100.100.100.200/n/m", "100.100.100.200:443 is a reserved address"),
        ("0.0.0.0:11434/n/m", "0.0.0.0:11434 is a reserved address"),
        ("2852039166/n/m", "the registry's address is malformed"),
        ("0xa9fea9fe/n/m", "the registry's address is malformed"),
        ("0251.0376.0251.0376/n/m", "the registry's address is malformed"),
        ("169.254.43518/n/m", "the registry's address is malformed"),
    ],
)
def test_x37_no_name_leads_to_metadata(server: Server, model: str, text: str) -> None:
    """X-37: nor to a disguised address. Who may ask for private hosts is in registry/test_pull, what a list lifts in
    registry/test_session.
    """
    hint = ": LLAMERO_ALLOW_PRIVATE_REGISTRIES does not name it" if "reserved" in text else ""
    assert error(server, model) == text + hint
    assert error(server, model, insecure=True).startswith(text.partition(":")[0])


@pytest.mark.parametrize("host", ["[::ffff:7f00:1]", "[fd00:ec2::254]:80", "::1", "[::]"])
def test_no_name_holds_an_ipv6_address(server: Server, host: str) -> None:
    """partly X-37"""
    reply = pull(server, f"http://{host}/n/m")
    assert (reply.status, reply.error) == (400, "invalid model name")


def test_a_server_does_not_ask_itself(server: Server) -> None:
    assert error(server, f"http://{server.host}/library/m").startswith(f"{server.host} is this server itself: ")


def test_plain_http_to_a_public_host_needs_insecure(server: Server) -> None:
    """Nothing is sent: the address is one of those that lead nowhere."""
    assert lines(server, "http://192.0.2.1/library/m") == [PULLING, {"error": "insecure protocol http"}]


def test_a_private_host_is_for_this_machine(server: Server, registry: ModelRegistry, name: str) -> None:
    """The exception of security §10.1 holds for who asks from here, and for nobody else."""
    registry.add(f"{name}:latest", b"w")
    proxied = server.post(
        "/api/pull", {"model": f"http://{registry.host}/{name}"}, headers={"X-Forwarded-For": "192.0.2.7"}
    )
    assert proxied.status == 403
    assert lines(server, f"http://{registry.host}/{name}")[-1] == SUCCESS


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_to_another_private_host_is_refused(
    server: Server, registry: ModelRegistry, name: str, weights: bytes, status: int
) -> None:
    model = registry.add(f"{name}:latest", weights)
    with ModelRegistry() as other:
        other.add(f"{name}:latest", weights)
        path = f"/v2/{name}/manifests/latest"
        refused = f"{other.host} is a private address: LLAMERO_ALLOW_PRIVATE_REGISTRIES does not name it"
        for moved in (path, f"/v2/{name}/blobs/{model.digests[1]}"):
            kept = registry.answers.get(moved)
            registry.answers[moved] = Answer(status, b"", {"Location": f"http://{other.host}{moved}"})
            assert error(server, f"http://{registry.host}/{name}") == refused
            if kept:
                registry.answers[moved] = kept
        assert other.asked == []


# --- manifests that are none ---------------------------------------------------------------------------------------

OUTSIDE = ("sha256:../../x", "../../../etc/passwd", "/etc/passwd", f"sha256:{'0' * 60}/../", "sha256-..%2f..%2fx", "")


@pytest.mark.parametrize("digest", OUTSIDE)
@pytest.mark.parametrize("kind", ["model", "tensor", "config"])
def test_s43_x12_a_digest_is_no_path(
    server: Server, registry: ModelRegistry, name: str, kind: str, digest: str
) -> None:
    """S-43, X-12: nothing is created or removed, in the store or beside it."""
    bad = layer(b"x", kind, digest=digest)
    if kind == "config":
        bad |= {"digest": digest or "x"}  # a manifest without a config digest is one without a config
    layers = [layer(b"x")] if kind == "config" else [layer(b"x"), bad]
    registry.put(f"{name}:latest", manifest(layers, bad if kind == "config" else layer(b"{}", "config")))
    before = tree(server.home.parent / "models")
    said = error(server, f"http://{registry.host}/{name}")
    assert said == "pull model manifest: invalid manifest: a layer's digest is malformed"
    assert tree(server.home.parent / "models") == before


def _document(**changed: Any) -> bytes:
    document = json.loads(manifest([layer(b"x")], layer(b"{}", "config"))) | changed
    return json.dumps({key: value for key, value in document.items() if value is not ...}).encode()


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b'{"schemaVersion":2,"layers":[', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"null", "not an object"),
        (b"[]", "not an object"),
        (b'"m"', "not an object"),
        (b"{}", "schemaVersion is not 2"),
        (_document(schemaVersion=1), "schemaVersion is not 2"),
        (_document(schemaVersion="2"), "schemaVersion is not 2"),
        (_document(layers=...), "no list of layers"),
        (_document(layers=None), "no list of layers"),
        (_document(layers=[]), "no list of layers"),
        (_document(layers={"0": layer(b"x")}), "no list of layers"),
        (_document(layers=[layer(b"x")] * 4097), "more than 4096 layers"),
        (_document(layers=[None]), "a layer is not an object"),
        (_document(layers=["sha256:00"]), "a layer is not an object"),
        (_document(config=[]), "a layer is not an object"),
        (_document(layers=[layer(b"x", size=-1)]), "a layer's size is not a number of bytes"),
        (_document(layers=[layer(b"x", size="1")]), "a layer's size is not a number of bytes"),
        (_document(layers=[layer(b"x", size=1.5)]), "a layer's size is not a number of bytes"),
        (_document(layers=[layer(b"x", size=True)]), "a layer's size is not a number of bytes"),
        (_document(layers=[layer(b"x", size=None)]), "a layer's size is not a number of bytes"),
        (_document(layers=[layer(b"x", size=EIGHT_TIB + 1)]), "a layer's size is not a number of bytes"),
        (_document(layers=[layer(b"x", size=10**30)]), "a layer's size is not a number of bytes"),
        (_document(layers=[layer(b"x", digest=7)]), "a layer's digest is not a string"),
        (_document(layers=[layer(b"x", mediaType=["a"])]), "a layer's mediaType is not a string"),
        (_document(config=layer(b"x", "config", size=MIB + 1)), f"a config larger than {MIB} bytes"),
        (_document(layers=[layer(b"x", "license", size=16 * MIB + 1)]), f"a text larger than {16 * MIB} bytes"),
    ],
)
def test_x32_manifests_that_make_no_sense(
    server: Server, registry: ModelRegistry, name: str, raw: bytes, reason: str
) -> None:
    """X-32: an error each, nothing stored, and the server goes on."""
    registry.put(f"{name}:latest", raw)
    assert error(server, f"http://{registry.host}/{name}") == f"pull model manifest: invalid manifest: {reason}"
    assert not stored(server, f"{registry.host}/{name}").exists()
    assert server.get("/api/version").status == 200


def test_a_manifest_that_lists_a_layer_twice_is_fine(
    server: Server, registry: ModelRegistry, name: str, weights: bytes
) -> None:
    model = registry.add(f"{name}:latest", weights, weights)
    assert lines(server, f"http://{registry.host}/{name}")[-1] == SUCCESS
    assert len(registry.bodies(model.digests[1])) == 1


def memory_peak_bytes(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """A gigabyte of blanks, packed into one megabyte."""
    packer, packed = gzip.compress(b" " * (16 * MIB)), b""
    for _ in range(64):
        packed += packer  # members follow one another
    return packed


def test_partly_x31_a_manifest_bomb_is_cut_short(
    server: Server, registry: ModelRegistry, name: str, bomb: bytes
) -> None:
    """partly X-31: the registry's half."""
    before_bytes = memory_peak_bytes(server)
    for tag, answer in (
        ("packed", Answer(200, bomb, {"Content-Encoding": "gzip"})),
        ("plain", Answer(200, b" " * (64 * MIB))),
    ):
        registry.answers[f"/v2/{name}/manifests/{tag}"] = answer
        assert error(server, f"http://{registry.host}/{name}:{tag}") == (
            f"pull model manifest: {registry.url}/v2/{name}/manifests/{tag}: the answer is larger than {4 * MIB} bytes"
        )
    assert memory_peak_bytes(server) - before_bytes < 64 * MIB


# --- blobs ---------------------------------------------------------------------------------------------------------


def test_s38_wrong_content_is_said_and_nothing_of_it_stays(
    server: Server, registry: ModelRegistry, name: str, weights: bytes
) -> None:
    """S-38, and N-119's way to say it."""
    model = registry.add(f"{name}:latest", b"first" + weights, weights)
    digest, wrong = model.digests[2], bytes(len(weights))
    registry.blobs[digest] = wrong
    text = f"digest mismatch, file must be downloaded again: want {digest}, got {digest_of(wrong)}"
    assert error(server, f"http://{registry.host}/{name}") == text
    reply = pull(server, f"http://{registry.host}/{name}", stream=False)
    assert (reply.status, reply.error) == (500, text)
    assert [path.name for path in blob(server, digest).parent.glob(f"{blob(server, digest).name}*")] == []
    assert blob(server, model.digests[1]).exists()
    assert not stored(server, f"{registry.host}/{name}").exists()


def test_s39_a_bogus_digest_shared_with_the_config_is_verified(
    server: Server, registry: ModelRegistry, name: str, weights: bytes
) -> None:
    digest = digest_of(weights)
    registry.blobs[digest] = bytes(len(weights))
    registry.put(f"{name}:latest", manifest([layer(weights)], layer(weights, "config")))
    assert error(server, f"http://{registry.host}/{name}").startswith("digest mismatch")
    assert not blob(server, digest).exists()


def test_partly_s44_a_model_of_tensors_is_told_as_one(server: Server, registry: ModelRegistry, name: str) -> None:
    """partly S-44: its lines through the API; `.tmp` files and checks are in test_tensors."""
    tensors = [os.urandom(1000) for _ in range(5)]
    registry.add(f"{name}:latest", *tensors, kind="tensor")
    total = {"status": "pulling model", "digest": "sha256:model", "total": 5002}
    said = lines(server, f"http://{registry.host}/{name}")
    assert [line for number, line in enumerate(said) if line != said[number - 1]] == [
        PULLING,
        total | {"completed": 5002},
        WRITING,
        SUCCESS,
    ]
    registry.add(f"{name}:wrong", *tensors, b"sixth", kind="tensor")
    registry.blobs[digest_of(b"sixth")] = b"other"
    assert "digest mismatch: want" in error(server, f"http://{registry.host}/{name}:wrong")
    assert not blob(server, digest_of(b"sixth")).exists()


def test_s41_layers_that_no_model_uses_any_more_are_removed(
    server: Server, registry: ModelRegistry, name: str, weights: bytes
) -> None:
    """S-41, and half of X-95: that a tag means something else now is reported, in the stream and in the log."""
    old = registry.add(f"{name}:latest", weights, b"also in the other" + weights, license="MIT")
    registry.add(f"{name}:other", b"also in the other" + weights)
    model = f"http://{registry.host}/{name}"
    for each in (model, f"{model}:other"):
        assert lines(server, each)[-1] == SUCCESS
    new = registry.add(f"{name}:latest", b"new" + weights, license="MIT")
    assert lines(server, model) == [
        PULLING,
        {"status": f"manifest changed from {old.digest[7:19]} to {new.digest[7:19]}"},
        *progress(new.digests[1], len(weights) + 3),
        *progress(new.digests[2], 3, begins=False),
        *progress(new.digests[0], 2, begins=False),
        VERIFYING,
        WRITING,
        REMOVING,
        SUCCESS,
    ]
    gone, shared = old.digests[1:3]
    assert not blob(server, gone).exists()
    assert blob(server, shared).exists()
    assert f"manifest {old.digest[7:]} will be replaced by {new.digest[7:]}" in server.log.read_text()


# --- space and speed -----------------------------------------------------------------------------------------------


def test_s103_what_does_not_fit_is_refused_up_front(server: Server, registry: ModelRegistry, name: str) -> None:
    """S-103: both figures are named, and `dry_run` writes nothing."""
    registry.put(f"{name}:latest", manifest([layer(b"x", size=EIGHT_TIB)], layer(b"{}", "config")))
    registry.blobs[digest_of(b"{}")] = b"{}"
    before = tree(server.models)
    reply = pull(server, f"http://{registry.host}/{name}", stream=False)
    assert reply.status == 507
    needed, free = (int(word) for word in reply.error.split() if word.isdigit())
    assert reply.error == f"not enough disk space: {needed} bytes are needed, {free} are free"
    assert needed in (EIGHT_TIB, EIGHT_TIB + 2)  # another model may have the config
    assert free < EIGHT_TIB
    assert registry.bodies(digest_of(b"x")) == []
    small = registry.add(f"{name}:small", b"new", b"newer")
    asked = len(registry.paths)
    assert lines(server, f"http://{registry.host}/{name}:small", dry_run=True)[-2:] == [
        {"status": f"dry run: {8 + 2 * (needed > EIGHT_TIB)} of 10 bytes would be fetched"},
        SUCCESS,
    ]
    assert registry.paths[asked:] == [f"/v2/{name}/manifests/small"]
    assert tree(server.models) == before
    assert not blob(server, small.digests[1]).exists()


def test_partly_s104_a_pull_keeps_to_its_rate(server: Server, registry: ModelRegistry, name: str) -> None:
    """partly S-104: a rate of this pull's own, for a second; test_download measures longer."""
    registry.add(f"{name}:latest", os.urandom(900_000))
    began_s = time.monotonic()
    assert lines(server, f"http://{registry.host}/{name}", limit_rate="500KB/s")[-1] == SUCCESS
    # the first tenth of a second's bytes are free, and nobody waits for the debt of the last block
    assert 1.0 < time.monotonic() - began_s < 4.0
    assert pull(server, f"http://{registry.host}/{name}", limit_rate="fast").status == 400


# --- several clients, and clients that leave -----------------------------------------------------------------------


def test_s40_the_last_listener_takes_the_transfer_with_it(server: Server, registry: ModelRegistry, name: str) -> None:
    """S-40: a second one keeps it alive. What has arrived stays, and a new pull goes on from there at once."""
    weights = os.urandom(2 * MIB)
    model = registry.add(f"{name}:latest", weights)
    digest, body = model.digests[1], {"model": f"http://{registry.host}/{name}"}
    registry.hold(digest)
    registry.hung_up.clear()
    with server.streaming("/api/pull", body) as first:
        assert first.readline() == b'{"status":"pulling manifest"}\n'
        with server.streaming("/api/pull", body) as second:
            assert second.readline() == b'{"status":"pulling manifest"}\n'
            registry.wait_for(lambda: registry.sent_bytes >= MIB)
        time.sleep(0.3)  # the second one has left; thrice as long as a cancelled transfer needs
        assert not registry.hung_up.is_set()
    assert registry.hung_up.wait(5)
    server.wait_until(lambda: "cancelled, what has arrived stays" in server.log.read_text())
    partial = blob(server, digest).with_name(blob(server, digest).name + "-partial")
    assert partial.stat().st_size == len(weights)
    registry.release()
    sent_bytes = registry.sent_bytes
    assert lines(server, body["model"])[-1] == SUCCESS
    assert registry.sent_bytes - sent_bytes < len(weights)
    assert not partial.exists()


def test_x81_twenty_pulls_are_one_transfer(server: Server, registry: ModelRegistry, name: str, weights: bytes) -> None:
    """X-81: one of them leaves, nineteen succeed."""
    model = registry.add(f"{name}:latest", weights)
    body = {"model": f"http://{registry.host}/{name}"}
    registry.hold(model.digests[1])
    with ThreadPoolExecutor(19) as threads:
        replies = [threads.submit(pull, server, body["model"]) for _ in range(19)]
        with server.streaming("/api/pull", body) as leaving:
            assert leaving.readline() == b'{"status":"pulling manifest"}\n'
            registry.wait_for(lambda: registry.bodies(model.digests[1]) != [])
        registry.release()
        assert [reply.result().lines()[-1] for reply in replies] == [SUCCESS] * 19
    assert len(registry.bodies(model.digests[1])) == 1
    assert registry.paths.count(f"/v2/{name}/manifests/latest") == 1


def test_pulls_that_wait_hold_up_nobody_else(server: Server, registry: ModelRegistry, name: str) -> None:
    """More of them than the event loop has threads of its own on any machine."""
    many = [f"{name}:{number}" for number in range(40)]
    for number, each in enumerate(many):
        registry.hold(registry.add(each, os.urandom(20_000), license=str(number)).digests[1])
    with ThreadPoolExecutor(len(many)) as threads:
        replies = [threads.submit(pull, server, f"http://{registry.host}/{each}") for each in many]
        registry.wait_for(lambda: sum(path.startswith("/storage/") for path in registry.paths[-200:]) >= len(many))
        assert server.get("/api/tags", timeout_s=5).status == 200
        registry.release()
        assert [reply.result().lines()[-1] for reply in replies] == [SUCCESS] * len(many)


def test_a_server_that_stops_ends_its_pulls(tmp_path: Path, registry: ModelRegistry, name: str, weights: bytes) -> None:
    model = registry.add(f"{name}:latest", weights)
    registry.hold(model.digests[1])
    with running(tmp_path, tmp_path / "models", LLAMERO_STOP_TIMEOUT="200ms", **NOWHERE) as server:
        with server.streaming("/api/pull", {"model": f"http://{registry.host}/{name}"}) as reply:
            registry.wait_for(lambda: registry.bodies(model.digests[1]) != [])
            stopping = threading.Thread(target=server.stop)
            stopping.start()
            said = reply.read().splitlines()
            stopping.join()
        assert json.loads(said[-1]) == {"error": "the server is stopping"}
        assert "Traceback" not in server.log.read_text()
    registry.release()


# --- what else pulls -----------------------------------------------------------------------------------------------


def test_s86_create_pulls_its_missing_base(server: Server, registry: ModelRegistry, name: str) -> None:
    """S-86: with the pull's own lines, and only one end. A base that is not there leaves nothing."""
    weights = tiny_llama()
    model = registry.add(f"{name}:latest", weights, config=b'{"model_format":"gguf","model_family":"llama"}')
    wanted = {"model": f"child{name[9:]}", "from": f"http://{registry.host}/{name}", "system": "Be brief."}
    said = server.post("/api/create", wanted).lines()
    assert said[0] == PULLING
    assert {"status": "verifying sha256 digest"} in said
    assert progress(model.digests[1], len(weights))[-1] in said
    assert said.count(SUCCESS) == 1
    assert said[-1] == SUCCESS
    assert stored(server, f"{registry.host}/{name}").read_bytes() == model.raw
    failed = server.post("/api/create", wanted | {"model": "orphan", "from": f"http://{registry.host}/{name}-not"})
    assert failed.lines()[-1] == {"error": "pull model manifest: file does not exist"}
    assert not stored(server, "orphan").parent.exists()


def test_what_runs_is_listed_and_can_be_ended(server: Server, registry: ModelRegistry, name: str) -> None:
    """GAP-10: by somebody who does not follow it. What has arrived stays."""
    weights = os.urandom(2 * MIB)
    digest, model = registry.add(f"{name}:latest", weights).digests[1], f"http://{registry.host}/{name}"
    registry.hold(digest)
    with server.streaming("/api/pull", {"model": model}) as reply:
        registry.wait_for(lambda: registry.sent_bytes >= MIB)
        server.wait_until(lambda: running_pulls(server)[0]["completed"] > 0)
        (running_pull,) = running_pulls(server)
        assert (running_pull["model"], running_pull["status"]) == (
            f"{registry.host}/{name}:latest",
            f"pulling {digest[7:19]}",
        )
        assert 0 < running_pull["completed"] < running_pull["total"]
        assert server.post("/api/llamero/downloads/cancel", {"model": "another"}).status == 404
        assert (
            server.post("/api/llamero/downloads/cancel", {"model": model.upper().replace("HTTP", "http")}).status == 200
        )
        assert json.loads(reply.read().splitlines()[-1]) == {"error": "request canceled"}
    assert running_pulls(server) == []
    assert blob(server, digest).with_name(blob(server, digest).name + "-partial").exists()
    registry.release()
    assert lines(server, model)[-1] == SUCCESS


def running_pulls(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.get("/api/llamero/downloads").json()["downloads"]
    return found


def test_the_rate_of_all_transfers_can_be_changed_while_they_run(
    server: Server, registry: ModelRegistry, name: str
) -> None:
    """GAP-14: what would have taken a minute ends at once when the limit is lifted."""
    registry.add(f"{name}:latest", os.urandom(3 * MIB))
    assert server.post("/api/llamero/downloads/limit", {"limit_rate": "50KB"}).json()["limit_rate"] == 50_000
    try:
        began_s = time.monotonic()
        with server.streaming("/api/pull", {"model": f"http://{registry.host}/{name}"}) as reply:
            server.wait_until(lambda: running_pulls(server) and running_pulls(server)[0]["completed"] > 0)
            assert server.post("/api/llamero/downloads/limit", {"limit_rate": "0"}).json()["limit_rate"] == 0
            assert json.loads(reply.read().splitlines()[-1]) == SUCCESS
        assert time.monotonic() - began_s < 20
    finally:
        server.post("/api/llamero/downloads/limit", {"limit_rate": "0"})
    assert server.post("/api/llamero/downloads/limit", {"limit_rate": "fast"}).status == 400
