"""What `serve` makes of its flags (cli §3.1, security §9.1). The server itself is tested with the server."""

from __future__ import annotations

from llamero.cli.serve import server_settings


def test_listen_wins_over_the_variable() -> None:
    env = {"OLLAMA_HOST": "1.2.3.4:5", "OLLAMA_KEEP_ALIVE": "0"}
    assert [host.netloc for host in server_settings(env, []).listen] == ["1.2.3.4:5"]
    settings = server_settings(env, ["127.0.0.1:1", ":2,h:66000"])
    assert [host.netloc for host in settings.listen] == ["127.0.0.1:1", ":2", "h:11434"]
    assert (settings.listen_via, settings.keep_alive_ns) == ("--listen", 0)
    assert settings.warnings == ("invalid port, using default port=66000 default=11434",)
