"""Manifests: their bytes, and the tree that names them (store-registry §1.4, §2; security §10.2)."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path, PurePath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.errors import BadRequest, InvalidName, ModelNotFound, StorageError
from llamero.names import Digest, ModelName
from llamero.store import Store
from llamero.store.manifests import (
    CONFIG,
    MODEL,
    SYSTEM,
    Layer,
    Manifests,
    encode_manifest,
    parse_manifest,
    refuse_windows_names,
)
from llamero.store.staging import Staging
from tests import model_folders

HEX = "ab" * 32
NAME = ModelName.parse("m")


def document(**changes: Any) -> dict[str, Any]:
    layer = {"mediaType": MODEL, "digest": f"sha256:{HEX}", "size": 5}
    config = {"mediaType": CONFIG, "digest": f"sha256:{HEX}", "size": 5}
    return {"schemaVersion": 2, "mediaType": "t", "config": config, "layers": [layer]} | changes


def layer(**changes: Any) -> dict[str, Any]:
    return document(layers=[document()["layers"][0] | changes])


def test_a_manifest_made_here() -> None:
    """Partly S-19: the digest in the list is shown in test_listing."""
    weights = Layer(MODEL, Digest(HEX), 2019377376, from_name="base:latest")
    named = Layer("application/vnd.ollama.image.json", Digest(HEX), 3, name="a<b>.json")
    raw = encode_manifest(Layer(CONFIG, Digest(HEX), 485), (weights, named))
    assert raw.decode() == (
        '{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",'
        f'"config":{{"mediaType":"{CONFIG}","digest":"sha256:{HEX}","size":485}},'
        f'"layers":[{{"mediaType":"{MODEL}","digest":"sha256:{HEX}","size":2019377376,"from":"base:latest"}},'
        f'{{"mediaType":"application/vnd.ollama.image.json","digest":"sha256:{HEX}","size":3,'
        '"name":"a\\u003cb\\u003e.json"}]}\n'
    )
    manifest = parse_manifest(raw)
    assert manifest.layers == (weights, named)
    assert manifest.digest == hashlib.sha256(raw).hexdigest()
    assert manifest.size_bytes == 2019377376 + 485 + 3
    assert manifest.made_here


def test_s12_digests_of_either_spelling_and_case_are_read() -> None:
    for text in (f"sha256:{HEX.upper()}", f"sha256-{HEX}", f"sha256-{HEX.upper()}"):
        assert parse_manifest(json.dumps(layer(digest=text)).encode()).layers[0].digest == Digest(HEX)


def test_unknown_fields_spacing_and_types_are_kept_in_the_bytes() -> None:
    raw = json.dumps(layer(mediaType="x/unknown", urls=["u"]) | {"annotations": {"a": "b"}}, indent=2).encode()
    manifest = parse_manifest(raw)
    assert manifest.raw == raw
    assert manifest.layers[0].media_type == "x/unknown"
    assert not manifest.made_here


BAD = {
    "not JSON": b"{",
    "no UTF-8": b'{"schemaVersion":2,"layers":"\xff"}',
    "nested too deep": b"[" * 100_000,
    "a list": b"[]",
    "null": b"null",
    "layers not a list": document(layers={}),
    "null layer": document(layers=[None]),
    "layer a text": document(layers=["x"]),
    "config a text": document(config="x"),
    "negative size": layer(size=-1),
    "size beyond 8 TiB": layer(size=(8 << 40) + 1),
    "size a text": layer(size="5"),
    "size a fraction": layer(size=5.5),
    "size a boolean": layer(size=True),
    "media type a number": layer(mediaType=5),
    "from a list": layer(**{"from": []}),
    "digest missing": layer(digest=None),
    "digest empty": layer(digest=""),
    "digest a path": layer(digest="sha256:../../etc/passwd"),
    "digest short": layer(digest=f"sha256:{HEX[1:]}"),
    "digest long": layer(digest=f"sha256:{HEX}a"),
    "digest of another kind": layer(digest=f"sha512:{HEX}"),
    "digest with NUL": layer(digest=f"sha256:{HEX[1:]}\0"),
    "digest escaped": layer(digest=f"sha256:{HEX[3:]}%2e"),
    "X-13 config digest": document(config={"mediaType": CONFIG, "digest": "sha256:../x", "size": 1}),
    "X-13 adapter digest": layer(mediaType="application/vnd.ollama.image.adapter", digest="sha256:../x"),
    "X-13 draft digest": layer(mediaType="application/vnd.ollama.image.draft", digest="../x"),
    "too many layers": document(layers=document()["layers"] * 4097),
    "too large": b" " * (4 << 20) + b"{}",
}
BAD_FROM_OUTSIDE = {
    "no schema version": document(schemaVersion=None),
    "schema version 1": document(schemaVersion=1),
    "no layers": document(layers=[]),
    "layers missing": document(layers=None),
    "size missing": layer(size=None),
    "config too large": document(config={"mediaType": CONFIG, "digest": f"sha256:{HEX}", "size": (1 << 20) + 1}),
    "system too large": layer(mediaType=SYSTEM, size=(16 << 20) + 1),
}


def as_bytes(given: bytes | dict[str, Any]) -> bytes:
    return given if isinstance(given, bytes) else json.dumps(given).encode()


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("given", BAD.values(), ids=BAD.keys())
def test_bad_manifests(given: bytes | dict[str, Any], strict: bool) -> None:
    with pytest.raises(BadRequest, match=r"^invalid manifest: "):
        parse_manifest(as_bytes(given), strict=strict)


@pytest.mark.parametrize("given", BAD_FROM_OUTSIDE.values(), ids=BAD_FROM_OUTSIDE.keys())
def test_from_outside_more_is_asked(given: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match=r"^invalid manifest: "):
        parse_manifest(as_bytes(given))


def test_a_stored_manifest_may_lack_what_others_left_out() -> None:
    assert parse_manifest(b"{}", strict=False).layers == ()
    empty = parse_manifest(as_bytes({"config": {"digest": ""}, "layers": [{"digest": f"sha256-{HEX}"}]}), strict=False)
    assert (empty.config, empty.size_bytes) == (None, 0)


# --- the tree ---


@given(st.text(alphabet="abAB_./\\:%2e-\0é", max_size=30))
def test_the_path_of_a_name_stays_in_the_tree(text: str) -> None:
    """Partly S-04: names themselves are fuzzed in test_names."""
    try:
        name = ModelName.parse(text)
    except InvalidName:
        return
    folder = PurePath("/models/manifests")
    path = Manifests(Path(folder), Staging(Path("/models/.llamero/tmp"))).path(name)
    assert path.relative_to(folder).parts == name.parts
    assert os.path.normpath(path) == str(path)


@pytest.mark.parametrize(
    "part", ["con", "CON", "nul.txt", "com1", "lpt9", "aux", "prn", "a:", "localhost:5000", "m.", "..\\x"]
)
def test_x20_names_that_windows_would_not_keep(part: str) -> None:
    with pytest.raises(InvalidName):
        refuse_windows_names(ModelName("h", "n", part, "t").parts if ":" not in part else ("h", "n", part, "t"))


def test_ordinary_names_are_fine_on_windows() -> None:
    refuse_windows_names(("registry.ollama.ai", "library", "console", "com10"))


def spelled(store: Store, text: str) -> str:
    return store.manifests.adopt(ModelName.parse(text)).full


def test_names_are_found_in_any_letter_case(store: Store, root: Path) -> None:
    model_folders.add(root, "Foo:TAG")
    model_folders.add(root, "Host/NS/Bar:a")
    library = "registry.ollama.ai/library"
    assert spelled(store, "foo:tag") == f"{library}/Foo:TAG"
    assert spelled(store, "REGISTRY.OLLAMA.AI/Library/FOO:tAG") == f"{library}/Foo:TAG"
    assert spelled(store, "foo:New") == f"{library}/Foo:New"  # a new tag beside an old one
    assert spelled(store, "host/ns/bar:A") == "Host/NS/Bar:a"
    assert spelled(store, "host/ns/New:a") == "Host/NS/New:a"
    assert spelled(store, "host/new/Bar:a") == "Host/new/Bar:a"
    assert spelled(store, "ns/Bar:a") == "registry.ollama.ai/ns/Bar:a"  # NS belongs to another host
    assert spelled(store, "New:Tag") == f"{library}/New:Tag"


def test_the_exact_spelling_wins_then_byte_order(store: Store, root: Path) -> None:
    for name in ("Foo", "foo", "FOO:x"):
        model_folders.add(root, name)
    assert spelled(store, "foo").endswith("/foo:latest")
    assert spelled(store, "Foo").endswith("/Foo:latest")
    assert spelled(store, "fOO").endswith("/Foo:latest")
    assert spelled(store, "foo:X").endswith("/FOO:x")  # a whole match goes before the nearest folder
    assert spelled(store, "fOO:new").endswith("/FOO:new")


def test_other_alphabets_never_count_as_ascii_letters(store: Store, root: Path) -> None:
    model_folders.add(root, "\N{KELVIN SIGN}")
    assert spelled(store, "k").endswith("/k:latest")


def test_s22_strays_neither_break_the_walk_nor_disappear(store: Store, root: Path) -> None:
    model_folders.add(root, "m")
    manifests = root / "manifests"
    library = manifests / "registry.ollama.ai" / "library"
    for place in (manifests, manifests / "registry.ollama.ai", library, library / "m"):
        (place / ".DS_Store").write_bytes(b"\0")
        (place / "dangling").symlink_to("nowhere")
        (place / "loop").symlink_to("loop")
    (library / "m" / "notes~").write_bytes(b"no manifest")
    os.mkfifo(library / "m" / "pipe")
    (library / "m" / "folder").mkdir()
    before = len(list(manifests.rglob("*")))
    assert [entry.name.display for entry in store.manifests.entries()] == ["m:latest"]
    assert [summary.name.display for summary in store.list()] == ["m:latest"]
    store.start()
    assert len(list(manifests.rglob("*"))) == before - 1, "only the empty folder goes"
    assert store.resolve(NAME).name.display == "m:latest"


def test_reading(store: Store, root: Path) -> None:
    path = model_folders.add(root, "m")
    os.utime(path, ns=(5, 1_700_000_000_123_456_789))
    stored = store.manifests.read(NAME)
    assert stored.manifest.raw == path.read_bytes()
    assert stored.modified_ns == 1_700_000_000_123_456_789
    for absent in ("n", "m:other", "ns/m", "h" * 300 + "/n/m"):
        with pytest.raises(ModelNotFound, match="not found"):
            store.manifests.read(ModelName.parse(absent))
    path.write_bytes(b'{"half')
    with pytest.raises(StorageError, match=r"^model 'm:latest': invalid manifest: not JSON$"):
        store.manifests.read(NAME)


def test_a_linked_manifest_is_read(store: Store, root: Path, tmp_path: Path) -> None:
    path = model_folders.add(root, "m")
    moved = path.rename(tmp_path / "elsewhere")
    path.symlink_to(moved)
    assert store.resolve(NAME).name == NAME
    assert [summary.name for summary in store.list()] == [NAME]


def test_writing_replaces_in_one_step_and_leaves_nothing_beside(store: Store, root: Path) -> None:
    store.manifests.write(NAME, b"one")
    with model_folders.manifest_path(root, "m").open("rb") as reader:
        store.manifests.write(NAME, b"two")
        assert reader.read() == b"one"
    assert model_folders.manifest_path(root, "m").read_bytes() == b"two"
    assert list((root / ".llamero" / "tmp").iterdir()) == []
    assert [path.name for path in (root / "manifests").rglob("*") if path.is_file()] == ["latest"]


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_changes_pass_through_no_link(store: Store, root: Path, tmp_path: Path, level: int) -> None:
    """Partly X-83, partly X-18: a link at any level below `manifests/` leads neither a write nor a removal outside."""
    outside = tmp_path / "outside"
    parts = NAME.parts[level + 1 :]
    victim = outside.joinpath(*parts) if parts else outside
    victim.parent.mkdir(parents=True, exist_ok=True)
    raw = as_bytes(document())
    victim.write_bytes(raw)
    link = (root / "manifests").joinpath(*NAME.parts[: level + 1])
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    before = model_folders.tree(tmp_path / "outside") if outside.is_dir() else outside.read_bytes()
    if level < 3:
        for change in (lambda: store.manifests.write(NAME, b"new"), lambda: store.manifests.remove(NAME)):
            with pytest.raises(StorageError, match="is a link"):
                change()
    else:
        store.manifests.write(NAME, b"new")
        assert not link.is_symlink()
    assert (model_folders.tree(tmp_path / "outside") if outside.is_dir() else outside.read_bytes()) == before


def test_removing_takes_the_empty_folders_along(store: Store, root: Path) -> None:
    model_folders.add(root, "m:a")
    model_folders.add(root, "m:b")
    model_folders.add(root, "host/ns/x")
    store.manifests.remove(ModelName.parse("host/ns/x"))
    store.manifests.remove(ModelName.parse("m:a"))
    found = sorted(path.relative_to(root / "manifests").as_posix() for path in (root / "manifests").rglob("*"))
    assert found == [
        "registry.ollama.ai",
        "registry.ollama.ai/library",
        "registry.ollama.ai/library/m",
        "registry.ollama.ai/library/m/b",
    ]


def test_an_unusable_folder_is_one_clear_error(store: Store, root: Path) -> None:
    root.mkdir()
    (root / "manifests").write_bytes(b"a file")
    for use in (
        lambda: store.list(),
        lambda: store.resolve(NAME),
        lambda: store.copy(NAME, NAME),
        lambda: store.manifests.write(NAME, b"x"),
    ):
        with pytest.raises(StorageError, match=r": ensure path elements are traversable$") as caught:
            use()
        assert str(root) not in str(caught.value)
