"""What a server refuses with, in the words of cli §1.1."""

from __future__ import annotations

import pytest

from llamero.client import Ask, Client
from llamero.errors import ServerAnswered
from tests.cli.scripted_server import Reply, ScriptedServer

PLAIN_ERRORS = [
    pytest.param(Reply(404, json={"error": "model 'x' not found"}), "model 'x' not found", id="json"),
    pytest.param(Reply(404, text="404 page not found"), "404 page not found", id="text"),
    pytest.param(Reply(500), "something went wrong, please see the ollama server logs for details", id="empty"),
    pytest.param(
        Reply(502), "502 Bad Gateway: a proxy answers, but the server behind it does not; is it running?", id="proxy"
    ),
    pytest.param(Reply(403, text="<b>no\n"), "<b>no", id="html"),
    pytest.param(
        Reply(401, json={"error": "unauthorized"}), "unauthorized: set OLLAMA_API_KEY to a key of this server", id="key"
    ),
    pytest.param(
        Reply(401, text="<html>401 Authorization Required</html>", headers={"WWW-Authenticate": 'Basic realm="x"'}),
        "unauthorized: a proxy wants a name and a password; put user:password@ before the host in OLLAMA_HOST",
        id="login",
    ),
]


@pytest.mark.parametrize(("reply", "message"), PLAIN_ERRORS)
def test_errors_of_plain_calls(client: Client, server: ScriptedServer, reply: Reply, message: str) -> None:
    server.replies["POST /api/show"] = reply
    with pytest.raises(ServerAnswered) as error:
        client.show("x")
    assert (str(error.value), error.value.status) == (message, reply.status)


def test_a_link_to_sign_in_comes_with_its_error(client: Client, server: ScriptedServer) -> None:
    """The server's own words then, since no key of its own is missing; streaming too."""
    nobody = Reply(401, json={"error": "unauthorized", "signin_url": "https://ollama.com/connect?key=x"})
    server.replies["POST /api/me"] = server.replies["POST /api/generate"] = nobody
    for call, text in (
        (client.me, "unauthorized"),
        (lambda: list(client.generate(Ask(model="m"), "p")), "401 Unauthorized: unauthorized"),
    ):
        with pytest.raises(ServerAnswered) as error:
            call()
        assert (str(error.value), error.value.status) == (text, 401)
        assert error.value.signin_url == "https://ollama.com/connect?key=x"


STREAM_ERRORS = [
    pytest.param(Reply(404, json={"error": "no x"}), "404 Not Found: no x", 404, id="json"),
    pytest.param(Reply(404, text='{"error": {"code": 1}}'), '404 Not Found: {"error": {"code": 1}}', 404, id="object"),
    pytest.param(Reply(502, text="bad"), "502 Bad Gateway: bad", 502, id="text"),
    pytest.param(Reply(500), "500 Internal Server Error", 500, id="empty"),
    pytest.param(Reply(lines=[{"response": "a"}, {"error": "broke"}]), "broke", 500, id="in the stream"),
]


@pytest.mark.parametrize(("reply", "message", "status"), STREAM_ERRORS)
def test_errors_of_streams(client: Client, server: ScriptedServer, reply: Reply, message: str, status: int) -> None:
    server.replies["POST /api/generate"] = reply
    with pytest.raises(ServerAnswered) as error:
        list(client.generate(Ask(model="m"), "p"))
    assert (str(error.value), error.value.status) == (message, status)


def test_a_redirection_is_not_followed(client: Client, server: ScriptedServer) -> None:
    server.replies["GET /api/tags"] = Reply(308, headers={"Location": "https://elsewhere/"})
    with pytest.raises(ServerAnswered, match="308: moved to https://elsewhere/; use that address"):
        client.tags()
