"""What a key of the role `infer` may do, and what is left of its requests (security §5, §6.3)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llamero.durations import FOREVER, HOUR, MINUTE
from llamero.errors import Forbidden
from llamero.messages import EmbedRequest
from llamero.options import OPTIONS, RUNNER_OPTIONS
from llamero.server import rights
from llamero.server.caller import NOBODY, Caller
from tests import model_folders
from tests.fake_llama_server import install, read_record
from tests.gguf_files import tiny_llama
from tests.running import Reply, Server, running
from tests.server.keyed import Keyed

INFER = Caller(key="alice", rights="infer")


def request(**fields: Any) -> EmbedRequest:
    return EmbedRequest(model="m", inputs=("text",), **fields)


def test_an_admin_has_what_is_asked_for() -> None:
    asked = request(options={"num_gpu": 1}, keep_alive_ns=FOREVER)
    assert rights.granted(asked, NOBODY, MINUTE) is asked
    rights.check_unload(NOBODY)


def test_only_the_window_of_the_runner_is_an_infer_keys() -> None:
    options = dict.fromkeys(OPTIONS, 1)
    left = rights.granted(request(options=options, warnings=("before",)), INFER, MINUTE)
    assert isinstance(left, EmbedRequest)
    dropped = set(RUNNER_OPTIONS) - {"num_ctx"}
    assert set(left.options) == set(OPTIONS) - dropped
    assert left.warnings[0] == "before"
    assert {text.split("'")[1] for text in left.warnings[1:]} == dropped
    assert rights.granted(request(options={"num_gpu": None, "seed": 1}), INFER, MINUTE).warnings == ()


@pytest.mark.parametrize(
    ("asked_ns", "kept_ns", "warns"),
    [
        (None, None, False),
        (0, 0, False),
        (MINUTE, MINUTE, False),
        (5 * MINUTE, 5 * MINUTE, False),
        (HOUR, 5 * MINUTE, True),
        (FOREVER, 5 * MINUTE, True),
        (-1, 0, True),
    ],
)
def test_how_long_a_model_is_kept_for_an_infer_key(asked_ns: int | None, kept_ns: int | None, warns: bool) -> None:
    left = rights.granted(request(keep_alive_ns=asked_ns), INFER, 5 * MINUTE)
    assert left.keep_alive_ns == kept_ns
    assert len(left.warnings) == warns


def test_who_may_not_unload() -> None:
    with pytest.raises(Forbidden, match="admin key"):
        rights.check_unload(INFER)


# --- over HTTP -----------------------------------------------------------------------------------------------------

HI = [{"role": "user", "content": "Hi"}]
RESERVED = {"num_gpu": 0, "num_thread": 1, "use_mmap": False, "num_batch": 64, "main_gpu": 0, "draft_num_predict": 3}
UNLOADS = [
    ("/api/generate", {"model": "m", "keep_alive": 0}),
    ("/api/chat", {"model": "m", "keep_alive": 0, "messages": []}),
    ("/api/embed", {"model": "m", "keep_alive": 0}),
    ("/api/tokenize", {"model": "m", "keep_alive": 0, "text": "x"}),
]


def kept_s(entry: dict[str, Any]) -> float:
    left: timedelta = datetime.fromisoformat(entry["expires_at"]) - datetime.now(UTC)
    return left.total_seconds()


def test_x49_an_infer_key(keyed: Keyed) -> None:
    """X-49: what runs on is told of every reserved option and of the keep-alive, in the header and in the reply."""
    keyed.plays()
    before = len(keyed.starts())
    body = {"model": "m", "stream": False, "keep_alive": "24h", "options": RESERVED | {"num_ctx": 64, "seed": 1}}
    for path, more in (("/api/generate", {"prompt": "Hi"}), ("/api/chat", {"messages": HI})):
        reply = keyed.post("alice", path, body | more)
        assert reply.status == 200
        warnings = reply.json()["warnings"]
        assert warnings == reply.headers.get_all("Llamero-Warning")
        assert warnings[:-1] == [f"option {name!r} needs an admin key and has no effect" for name in RESERVED]
        assert warnings[-1] == "keep_alive: without an admin key a model is kept for 5m0s at most"
    (start,) = keyed.starts()[before:]
    assert start[start.index("-b") + 1] != "64"
    (entry,) = keyed.loaded()
    assert entry["context_length"] == 64
    assert 250 < kept_s(entry) <= 300
    for path, unload in UNLOADS:
        reply = keyed.post("alice", path, unload)
        assert (reply.status, reply.error) == (403, "forbidden: a model is unloaded with an admin key"), path
    assert keyed.loaded()
    keyed.unload_all()


def test_every_dialect_passes_through_the_same_rights(keyed: Keyed) -> None:
    keyed.plays()
    for path, more in {
        "/v1/chat/completions": {"messages": HI},
        "/v1/completions": {"prompt": "Hi"},
        "/v1/responses": {"input": "Hi", "store": False},
        "/v1/messages": {"messages": HI, "max_tokens": 5},
    }.items():
        body = {"model": "m", "options": {"num_gpu": 1}, "keep_alive": -1} | more
        reply = keyed.post("alice", path, body)
        assert reply.status == 200, reply.body
        said = reply.headers.get_all("Llamero-Warning") or []
        assert "option 'num_gpu' needs an admin key and has no effect" in said, path
        assert "keep_alive: without an admin key a model is kept for 5m0s at most" in said, path
    assert kept_s(keyed.loaded()[0]) <= 300


def test_whoever_only_counts_is_told_as_well(keyed: Keyed) -> None:
    keyed.plays()
    for path, more in {
        "/api/tokenize": {"text": "Hi"},
        "/api/detokenize": {"tokens": [1]},
        "/v1/messages/count_tokens": {"messages": HI},
        "/v1/responses/input_tokens": {"input": "Hi"},
    }.items():
        reply = keyed.post("alice", path, {"model": "m", "keep_alive": -1} | more)
        assert reply.status == 200, reply.body
        said = reply.headers.get_all("Llamero-Warning")
        assert said == ["keep_alive: without an admin key a model is kept for 5m0s at most"], path
        assert keyed.post("root", path, {"model": "m", "keep_alive": -1} | more).headers["Llamero-Warning"] is None
    keyed.unload_all()


def test_x91_show_tells_an_infer_key_no_path(keyed: Keyed) -> None:
    """X-91: the Modelfile names the model instead; what its licence says is for everybody."""
    secretive = keyed.post("alice", "/api/show", {"model": "own", "verbose": True})
    assert secretive.status == 200
    text = secretive.body.decode()
    for path in (str(keyed.server.models), str(keyed.server.home), "sha256-", "blobs"):
        assert path not in text
    assert "\nFROM own:latest\n" in secretive.json()["modelfile"]
    assert secretive.json()["details"]["parent_model"] == "m:latest"
    assert keyed.post("alice", "/api/show", {"model": "m"}).json()["license"] == "MIT, of somebody"
    open_ = keyed.post("root", "/api/show", {"model": "own"}).json()["modelfile"]
    assert f"\nFROM {keyed.server.models}/blobs/sha256-" in open_


def test_a_path_that_another_program_left_as_the_base_of_a_model_is_told_to_admins_only(keyed: Keyed) -> None:
    path = "/home/somebody/models/blobs/sha256-0123"
    model_folders.add(keyed.server.models, "foreign", tiny_llama(), from_name=path)
    for key, parent in (("root", path), ("alice", "")):
        shown = keyed.post(key, "/api/show", {"model": "foreign"}).json()
        listed = {each["name"]: each for each in keyed.get(key, "/api/tags").json()["models"]}
        assert shown["details"]["parent_model"] == listed["foreign:latest"]["details"]["parent_model"] == parent
    assert keyed.call("root", "DELETE", "/api/delete", {"model": "foreign"}).status == 200


def test_x53_nothing_tells_about_the_server_without_admin(keyed: Keyed) -> None:
    """X-53."""
    for path in ("/openapi.json", "/metrics", "/api/llamero/keys", "/api/llamero/cache"):
        statuses = [keyed.get(key, path).status for key in ("", "alice", "root")]
        assert statuses == [401, 403, 200], path
    for path in ("/debug", "/debug/vars", "/debug/pprof/", "/docs", "/redoc"):
        statuses = [keyed.get(key, path).status for key in ("", "alice", "root")]
        assert statuses == [401, 403, 404], path


# --- without keys --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One without keys, with a rate for each address."""
    folder = tmp_path_factory.mktemp("open")
    model_folders.add(folder / "models", "m", tiny_llama())
    program = install(folder)
    env = {"LLAMERO_LLAMA_SERVER": str(program), "LLAMERO_RATE_LIMIT": "20/h"}
    with running(folder, folder / "models", **env) as server:
        yield server


def test_a_forwarded_request_without_keys_has_the_same_rights(open_server: Server) -> None:
    """partly X-52: a tunnel makes strangers look near."""

    def post(path: str, body: Any) -> Reply:
        return open_server.post(path, body, headers={"X-Forwarded-For": "203.0.113.9"})

    body = {"model": "m", "prompt": "Hi", "stream": False, "options": {"num_thread": 1}, "keep_alive": -1}
    assert len(post("/api/generate", body).json()["warnings"]) == 2
    assert post("/api/generate", {"model": "m", "keep_alive": 0}).status == 403
    assert str(open_server.models) not in post("/api/show", {"model": "m"}).body.decode()
    assert str(open_server.models) in open_server.post("/api/show", {"model": "m"}).body.decode()
    starts = [argv for argv in read_record(open_server.models.parent, "argv") if "--model" in argv]
    assert len(starts) == 1
    assert open_server.post("/api/generate", {"model": "m", "keep_alive": 0}).status == 200


def test_without_keys_each_address_has_its_rate(open_server: Server) -> None:
    """partly X-55."""
    replies = [open_server.get("/api/tags") for _ in range(21)]
    assert replies[-1].status == 429
    assert int(replies[-1].headers["Retry-After"]) > 100
    assert open_server.get("/api/version").status == 200
