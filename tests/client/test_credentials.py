"""Which secret goes out, and in which header (security §6.1; cli §9)."""

from __future__ import annotations

import base64

import pytest

from llamero.client import Client, bearer
from llamero.config import parse_host
from llamero.errors import ClientError
from tests.cli.scripted_server import ScriptedServer


@pytest.mark.parametrize(
    ("setting", "secret"),
    [
        ("", ""),
        ("just-one-secret", "just-one-secret"),
        ("infer:one, admin:two ,admin:three", "two"),
        ("bob=infer:one,eve=admin:two", "two"),
        ("infer:one", "one"),
        ("has:colon", "has:colon"),
        ("infer:one,plain", "plain"),
        ("admin:two:halves", "two:halves"),
        ("no name=admin:two", "no name=admin:two"),
    ],
)
def test_the_first_admin_secret_is_sent(setting: str, secret: str) -> None:
    assert bearer(setting) == secret


def test_the_key_goes_out_as_a_bearer_token(server: ScriptedServer) -> None:
    Client(parse_host(server.address)[0], "infer:x,admin:s3cret").heartbeat()
    assert server.requests[0].headers["Authorization"] == "Bearer s3cret"


def test_name_and_password_of_the_address_are_basic_auth_beside_the_key(server: ScriptedServer) -> None:
    host = parse_host(f"http://us%40er:pass@{server.address}")[0]
    Client(host, "key").heartbeat()
    headers = server.requests[0].headers
    assert headers["Authorization"] == "Basic " + base64.b64encode(b"us@er:pass").decode()
    assert headers["x-api-key"] == "key"
    assert "pass" not in repr(host) + host.url


def test_a_key_that_no_request_can_carry_is_not_repeated() -> None:
    with pytest.raises(ClientError, match="OLLAMA_API_KEY") as caught:
        Client(parse_host("h")[0], "hid\nden")
    assert "hid" not in str(caught.value)
