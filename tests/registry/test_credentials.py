"""What the user wrote down about registries: store-registry GAP-05, §3.7 no. 7."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from llamero.errors import RegistryError
from llamero.registry.credentials import MAX_FILE_BYTES, Entry, Login, entry_for, hub_token, own_entry

ANNA = base64.b64encode(b"anna:pass:word").decode()


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def ours(home: Path) -> Path:
    return home / "llamero" / "registries.json"


def test_our_file_has_dockers_form_and_more(tmp_path: Path) -> None:
    entry = {"auth": ANNA, "realm": "https://auth.corp/token", "ca": "/etc/corp.pem", "insecure_tls": True}
    write(ours(tmp_path), {"auths": {"nexus.corp:8081": entry, "plain.corp": {}}, "credsStore": "ignored"})
    assert own_entry(tmp_path, "nexus.corp:8081") == Entry(
        Login("anna", "pass:word"), "https://auth.corp/token", "/etc/corp.pem", True
    )
    assert own_entry(tmp_path, "plain.corp") == Entry()
    assert own_entry(tmp_path, "nexus.corp") == Entry(), "another port is another registry"


@pytest.mark.parametrize(
    "key", ["box.corp", "BOX.corp", "https://box.corp", "https://box.corp/v1/", "box.corp:443", "https://box.corp:443/"]
)
def test_keys_are_hosts_or_urls_of_them(tmp_path: Path, key: str) -> None:
    write(ours(tmp_path), {"auths": {key: {"auth": ANNA}}})
    assert own_entry(tmp_path, "box.corp").login == Login("anna", "pass:word")


def test_dockers_file_gives_the_login_that_ours_has_not(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    env = {"DOCKER_CONFIG": str(docker)}
    assert entry_for(tmp_path, env, "box.corp") == Entry()
    write(docker / "config.json", {"auths": {"box.corp": {"auth": ANNA, "email": "a@b"}}, "credHelpers": {}})
    write(ours(tmp_path), {"auths": {"box.corp": {"ca": "/ca.pem"}}})
    assert entry_for(tmp_path, env, "box.corp") == Entry(Login("anna", "pass:word"), ca="/ca.pem")
    write(ours(tmp_path), {"auths": {"box.corp": {"auth": base64.b64encode(b"bob:x").decode()}}})
    assert entry_for(tmp_path, env, "box.corp").login == Login("bob", "x")


@pytest.mark.parametrize(
    "content",
    [
        "{secret",
        '{"auths": "secret"}',
        '{"auths": {"box.corp": "secret"}}',
        '{"auths": {"box.corp": {"auth": 7, "x": "secret"}}}',
        '{"auths": {"box.corp": {"auth": "secret!"}}}',
        '{"auths": {"box.corp": {"auth": "c2VjcmV0"}}}',
        '{"auths": {"box.corp": {"insecure_tls": "secret"}}}',
        "[" * 100_000,
        " " * (MAX_FILE_BYTES + 1),
    ],
    ids=["no JSON", "no map", "no entry", "no text", "no base64", "no colon", "no boolean", "deep", "huge"],
)
def test_a_malformed_file_is_named_and_not_shown(tmp_path: Path, content: str) -> None:
    """Partly X-36."""
    write(ours(tmp_path), content)
    with pytest.raises(RegistryError, match=r"^llamero/registries\.json is malformed") as refused:
        own_entry(tmp_path, "box.corp")
    assert "secret" not in str(refused.value)
    write(tmp_path / "config.json", content)
    ours(tmp_path).unlink()
    with pytest.raises(RegistryError, match=r"^Docker's config\.json is malformed"):
        entry_for(tmp_path, {"DOCKER_CONFIG": str(tmp_path)}, "box.corp")


def test_a_folder_in_the_files_place_is_an_error(tmp_path: Path) -> None:
    ours(tmp_path).mkdir(parents=True)
    with pytest.raises(RegistryError, match=r"cannot read llamero/registries\.json"):
        own_entry(tmp_path, "box.corp")


def test_a_login_does_not_show_its_password() -> None:
    """Partly X-36."""
    assert "pass" not in repr(Entry(Login("anna", "pass")))
    assert Login("anna", "pass").basic == "Basic YW5uYTpwYXNz"


@pytest.mark.parametrize(
    ("scheme", "host", "token"),
    [
        ("https", "hf.co", "hf_abc"),
        ("https", "huggingface.co", "hf_abc"),
        ("http", "hf.co", ""),
        ("https", "hf.co.evil.example", ""),
        ("https", "hf.co:8443", ""),
        ("https", "registry.ollama.ai", ""),
    ],
)
def test_the_hubs_token_is_for_the_hub(scheme: str, host: str, token: str) -> None:
    """GAP-06."""
    assert hub_token({"HF_TOKEN": " hf_abc\n"}, scheme, host) == token
    assert hub_token({"HF_TOKEN": "hf\r\nX: y"}, scheme, host) == ""
