"""Model names, source suffixes and digests (store-registry §1, §2; native-api §2.1)."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.errors import BadRequest, InvalidDigest, InvalidName
from llamero.names import Digest, ModelName, split_source

HOST = "registry.ollama.ai"

# text, full name, shortest display form
VALID = [
    pytest.param("llama3.2", f"{HOST}/library/llama3.2:latest", "llama3.2:latest", id="S-01"),
    ("user/m:7b", f"{HOST}/user/m:7b", "user/m:7b"),
    pytest.param("localhost:5000/ns/m", "localhost:5000/ns/m:latest", "localhost:5000/ns/m:latest", id="S-02"),
    ("http://h:80/ns/m:t", "h:80/ns/m:t", "h:80/ns/m:t"),
    ("hf.co/Org/Repo-GGUF:Q4_K_M", "hf.co/Org/Repo-GGUF:Q4_K_M", "hf.co/Org/Repo-GGUF:Q4_K_M"),
    ("host:https/namespace/model:tag", "host:https/namespace/model:tag", "host:https/namespace/model:tag"),
    ("_why/_the/_lucky:_stiff", "_why/_the/_lucky:_stiff", "_why/_the/_lucky:_stiff"),
    ("Registry.Ollama.AI/Library/M:T", "Registry.Ollama.AI/Library/M:T", "M:T"),
    ("registry.ollama.ai/other/m", f"{HOST}/other/m:latest", "other/m:latest"),
    ("host/library/m", "host/library/m:latest", "host/library/m:latest"),
    ("m..n", f"{HOST}/library/m..n:latest", "m..n:latest"),
]


@pytest.mark.parametrize(("text", "full", "display"), VALID)
def test_valid_names_are_filled_up_and_shortened(text: str, full: str, display: str) -> None:
    name = ModelName.parse(text)
    assert name.full == full
    assert str(name) == name.display == display
    assert ModelName.parse(name.full).full == full
    assert ModelName.parse(name.display).full.lower() == full.lower()


def test_s02_a_port_stays_with_the_host() -> None:
    assert ModelName.parse("host:5000/ns/m").parts == ("host:5000", "ns", "m", "latest")


def test_scheme_is_kept_and_never_shown() -> None:
    name = ModelName.parse("http://h:80/ns/m:t")
    assert (name.scheme, name.host) == ("http", "h:80")
    assert name.with_tag("u").scheme == "http"
    assert ModelName.parse("m").scheme == "https"


# S-03
INVALID = [
    "",
    "m:",
    ":t",
    "/m",
    "m/",
    "/ns/m",
    "host//m",
    "//",
    "a/b/c/d",
    "n.s/m",
    "-m",
    ".m",
    "-h/n/m:t",
    "host/name:space/model:tag",
    "m@sha256:" + "0" * 64,
    "a" * 81,
    "m:" + "t" * 81,
    "n" * 81 + "/m",
    "h" * 351 + "/n/m",
    "x y",
    "é",
    "m\n",
    "m:t\n",
    "x:y:z",
    "localhost:5000/b",
    "://h/n/m",
    "http:///n/m",
]


@pytest.mark.parametrize("text", INVALID)
def test_s03_invalid_names(text: str) -> None:
    with pytest.raises(InvalidName, match=r"^invalid model name$"):
        ModelName.parse(text)


def test_s03_longest_parts_are_valid() -> None:
    text = f"{'h' * 350}/{'n' * 80}/{'m' * 80}:{'t' * 80}"
    assert ModelName.parse(text).full == text


HOSTILE = st.lists(
    st.sampled_from(["..", ".", "/", "\\", "\0", ":", "%2e", "%2e%2e", "~", "//", "a", "A_", "-", "é", "\n", "C:"])
    | st.text(max_size=3),
    max_size=12,
).map("".join)


@given(HOSTILE)
def test_s04_no_valid_name_leads_out_of_its_folder(text: str) -> None:
    try:
        name = ModelName.parse(text)
    except InvalidName:
        return
    for kind in (PurePosixPath, PureWindowsPath):
        for part in name.parts:
            assert kind(part).parts == (part,) or ":" in part  # Windows: refused where paths are built
            assert part not in (".", "..")
            assert not set(part) & set("/\\\0%")


@given(HOSTILE)
def test_a_name_reads_back_from_its_own_text(text: str) -> None:
    try:
        name = ModelName.parse(text)
    except InvalidName:
        return
    assert ModelName.parse(name.full).parts == name.parts


# store-registry §1.3
@pytest.mark.parametrize(
    ("text", "base", "source"),
    [
        ("gpt-oss:20b:cloud", "gpt-oss:20b", "cloud"),
        ("gpt-oss:20b-cloud", "gpt-oss:20b", "cloud"),
        ("gpt-oss:20b-CLOUD", "gpt-oss:20b", "cloud"),
        ("qwen3:cloud", "qwen3", "cloud"),
        ("qwen3:8b:local", "qwen3:8b", "local"),
        (" qwen3:Local ", "qwen3", "local"),
        ("my-cloud-model", "my-cloud-model", ""),
        ("x-cloud", "x-cloud", ""),
        ("host:5000/ns/x-cloud", "host:5000/ns/x-cloud", ""),
        ("x:-cloud", "x:-cloud", ""),
        ("foo:local:local", "foo", "local"),
        ("", "", ""),
    ],
)
def test_source_suffixes(text: str, base: str, source: str) -> None:
    assert split_source(text) == (base, source)


def test_two_different_sources_are_refused() -> None:
    """Partly S-06: what pull and delete make of a suffix is theirs."""
    with pytest.raises(BadRequest, match=r'^use either :local or :cloud, not both: "foo:cloud:local"$'):
        split_source("foo:cloud:local")


HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize("text", [f"sha256:{HEX}", f"sha256-{HEX}", f"sha256:{HEX.upper()}", f"sha256-{HEX.upper()}"])
def test_digests_are_read_in_both_spellings_and_either_case(text: str) -> None:
    digest = Digest.parse(text)
    assert str(digest) == f"sha256:{HEX}"
    assert digest.file_name == f"sha256-{HEX}"
    assert digest.short == HEX[:12]


BAD_DIGESTS = [
    "",
    HEX,
    f"sha256:{HEX[:-1]}",
    f"sha256:{HEX}0",
    f"sha256:{HEX[:-1]}g",
    f"sha512:{HEX}",
    f"SHA256:{HEX}",
    f"sha256:{HEX}\n",
    f"sha256:{HEX[:-1]}\0",
    f"sha256:../../{HEX}",
    f"sha256:{HEX[:-3]}%2e",
    "sha256:" + "１" * 64,  # digits, but not ASCII ones
    "sha256:" + "a" * 100_000,
]


@pytest.mark.parametrize("text", BAD_DIGESTS, ids=range(len(BAD_DIGESTS)))
def test_malformed_digests(text: str) -> None:
    """Partly S-11: HEAD and POST answer with this."""
    with pytest.raises(InvalidDigest, match=r"^invalid digest format$") as caught:
        Digest.parse(text)
    assert caught.value.status == 400


@pytest.mark.parametrize("text", [HEX.upper(), HEX[:-1], "g" * 64, ""])
def test_a_digest_cannot_hold_a_bad_hash(text: str) -> None:
    with pytest.raises(InvalidDigest):
        Digest(text)


def test_digest_of_bytes() -> None:
    assert Digest.of(b"").hex == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
