"""Settings from an environment (cli §9, §10): the table, its kinds, and what is said about bad values."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamero import durations
from llamero.config import (
    BY_NAME,
    SPECULATION,
    TABLE,
    Settings,
    Variable,
    describe,
    is_secret,
    parse_host,
    parse_size,
    shown,
)
from llamero.errors import BadRequest


def settings(**env: str) -> Settings:
    return Settings.from_env({"HOME": "/h", **env})


HOSTS = [
    ("", "http://127.0.0.1:11434", 0),
    (":1234", "http://:1234", 0),
    ("1.2.3.4", "http://1.2.3.4:11434", 0),
    ("1.2.3.4:1234", "http://1.2.3.4:1234", 0),
    ("example.com", "http://example.com:11434", 0),
    ("example.com:1234", "http://example.com:1234", 0),
    (":0", "http://:0", 0),
    (":66000", "http://:11434", 1),
    (":-1", "http://:11434", 1),
    ("h:abc", "http://h:11434", 1),
    ("1.2.3.4:", "http://1.2.3.4:11434", 1),
    ("h: 80", "http://h:11434", 1),
    ("[::1]", "http://[::1]:11434", 0),
    ("::1", "http://[::1]:11434", 0),
    ("[::1]:1337", "http://[::1]:1337", 0),
    ("[::]", "http://[::]:11434", 0),
    ("\" ' 1.2.3.4 ' \"", "http://1.2.3.4:11434", 0),
    ("http://1.2.3.4", "http://1.2.3.4:80", 0),
    ("http://1.2.3.4:4321", "http://1.2.3.4:4321", 0),
    ("https://1.2.3.4", "https://1.2.3.4:443", 0),
    ("https://example.com/ollama", "https://example.com:443/ollama", 0),
    ("http://h:1/", "http://h:1", 0),
    ("http://", "http://127.0.0.1:80", 0),
    ("ollama.com", "https://ollama.com:443", 0),
    ("foo:bar:baz", "http://[foo:bar:baz]:11434", 0),
    # the two quirks of the reference that the GAP under the table mends
    ("HTTP://x", "http://x:80", 0),
    ("http://u:p@h:1", "http://h:1", 0),
    # and what it adds
    ("HTTPS://x", "https://x:443", 0),
    ("unix:///run/x.sock", "unix:/run/x.sock", 0),
    ("unix:/run/x.sock", "unix:/run/x.sock", 0),
]


@pytest.mark.parametrize(("text", "url", "warnings"), HOSTS)
def test_l18_addresses(text: str, url: str, warnings: int) -> None:
    """L-18"""
    host, said = parse_host(text)
    assert host.url == url
    assert len(said) == warnings


def test_a_login_is_kept_apart() -> None:
    assert parse_host("http://u:p@h:1")[0].user_info == "u:p"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("0.0.0.0:9", "http://127.0.0.1:9"),
        ("[::]:9", "http://[::1]:9"),
        (":9", "http://127.0.0.1:9"),
        ("h:9", "http://h:9"),
    ],
)
def test_clients_never_connect_to_an_unspecified_address(text: str, url: str) -> None:
    """Partly L-21."""
    assert settings(OLLAMA_HOST=text).host.url == url


def test_a_list_of_addresses() -> None:
    listen = settings(OLLAMA_HOST="127.0.0.1:1, [::1]:2").listen
    assert [host.netloc for host in listen] == ["127.0.0.1:1", "[::1]:2"]


@pytest.mark.parametrize(
    ("value", "prune"),
    [("0", False), ("false", False), ("1", True), ("T", True), ("", False), ("no", True), ("yes", True)],
)
def test_l101_booleans(value: str, prune: bool) -> None:
    """L-101 with the next tests; a word that is no boolean counts as true, as in the reference, but is reported."""
    made = settings(OLLAMA_NOPRUNE=value)
    assert made.no_prune is prune
    assert bool(made.warnings) == (value in ("no", "yes"))


def test_l101_numbers_that_are_none() -> None:
    made = settings(OLLAMA_NUM_PARALLEL="abc")
    assert made.num_parallel == 0
    assert made.warnings == ("invalid environment variable, using default key=OLLAMA_NUM_PARALLEL value=abc default=0",)


@pytest.mark.parametrize(
    ("value", "ns"),
    [
        ("10m", 10 * durations.MINUTE),
        ("600", 10 * durations.MINUTE),
        ("-1", durations.FOREVER),
        ("-1m", durations.FOREVER),
        ("0", 0),
        ("1d", 5 * durations.MINUTE),
        ("1_000", 5 * durations.MINUTE),
        ("٣", 5 * durations.MINUTE),
        ("", 5 * durations.MINUTE),
        ("\u00a0'10m'\u2003", 10 * durations.MINUTE),
    ],
)
def test_l101_keep_alive(value: str, ns: int) -> None:
    assert settings(OLLAMA_KEEP_ALIVE=value).keep_alive_ns == ns


@pytest.mark.parametrize(("value", "level"), [("", 0), ("1", 1), ("2", 2), ("-1", -1), ("true", 1), ("false", 0)])
def test_debug_levels(value: str, level: int) -> None:
    assert settings(OLLAMA_DEBUG=value).debug_level == level


@pytest.mark.parametrize("value", ["off", "info", "1_0"])
def test_a_word_is_no_level_of_debugging(value: str) -> None:
    """As in the reference, where this is no boolean like the others; ours says so."""
    made = settings(OLLAMA_DEBUG=value)
    assert made.debug_level == 0
    assert made.warnings == (f"invalid environment variable, using default key=OLLAMA_DEBUG value={value} default=0",)


def test_hosts_of_remote_models() -> None:
    assert settings().remotes == settings(OLLAMA_REMOTES=" ").remotes == ("ollama.com",)
    assert settings(OLLAMA_REMOTES="gpu-box, other.test").remotes == ("gpu-box", "other.test")


def test_folders() -> None:
    assert settings().models == Path("/h/.ollama/models")
    assert settings(OLLAMA_MODELS="/data").models == Path("/data")
    assert settings(LLAMERO_HOME="/own").models == Path("/own/models")
    assert settings(OLLAMA_MODELS="/data").home == Path("/h/.ollama")


@pytest.mark.parametrize(
    ("text", "size"),
    [("64MiB", 2**26), ("5MB", 5_000_000), ("1.5 GiB", 3 * 2**29), ("10", 10), ("1kb", 1000), ("0", 0)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "1 XB", "nan", "inf", "1e400"])
def test_texts_that_are_no_size(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_size(text)


def test_variables_that_nothing_honours_are_reported_when_set() -> None:
    silent = [variable.name for variable in TABLE if not variable.honoured_by]
    ours = [name for name in silent if name.startswith(("OLLAMA_", "LLAMERO_"))]
    assert ours, "the day this fails, the rule about them can go"
    for name in ours:
        assert settings(**{name: "1"}).warnings == (f"{name} is known but has no effect in this version",)


def test_names_that_look_like_ours_are_reported() -> None:
    assert settings(OLLAMA_HOTS="x").warnings == ("OLLAMA_HOTS is not a variable of this program and has no effect",)


def test_every_row_of_the_table_is_unique() -> None:
    assert len(BY_NAME) == len(TABLE)


def test_engines_inherit_devices_but_no_secrets() -> None:
    env = settings(
        PATH="/bin", CUDA_VISIBLE_DEVICES="0", OLLAMA_API_KEY="k" * 20, HTTPS_PROXY="http://p", AWS_SECRET_KEY="s"
    ).engine_env
    assert env == {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "0"}


def test_the_start_log_shows_values_but_no_secret() -> None:
    text = describe(
        {"OLLAMA_KEEP_ALIVE": "9m", "OLLAMA_API_KEY": "hunter2hunter2", "HTTPS_PROXY": "http://u:pw@proxy:1"}
    )
    assert "OLLAMA_KEEP_ALIVE:9m" in text
    assert "OLLAMA_API_KEY:[set]" in text
    assert "HTTPS_PROXY:http://[redacted]@proxy:1" in text
    assert "hunter2" not in text
    assert "LLAMERO_MAX_CONCURRENT_PER_KEY:0" in text
    assert "LLAMERO_TLS_KEY:/k" in describe({"LLAMERO_TLS_KEY": "/k"})
    assert ":pw" not in text


SECRETS = {"OLLAMA_API_KEY", "HF_TOKEN"}
"""Of all settings, those whose whole value is one."""


@pytest.mark.parametrize("variable", TABLE, ids=lambda each: each.name)
def test_of_every_setting_only_secrets_are_hidden(variable: Variable) -> None:
    """A number of requests per key, or the place of a key, is none; a login is one wherever an address may have it."""
    assert is_secret(variable.name) == (variable.name in SECRETS)
    assert shown(variable, "") == ""
    assert shown(variable, "4096") == ("[set]" if variable.name in SECRETS else "4096")
    if variable.kind in ("text", "list", "host"):
        for login in ("http://user:pw@", "http://user:p@pw@", "http://pw@", "user:pw@", "http://near,http://user:pw@"):
            assert "pw" not in shown(variable, f"{login}box:1/v1")


@pytest.mark.parametrize(
    ("name", "text", "seen"),
    [
        ("LLAMERO_MIRRORS", "hf.co=http://u:p@a|https://b", "hf.co=http://[redacted]@a|https://b"),
        ("OLLAMA_HOST", "127.0.0.1:1,u:p@h:2", "127.0.0.1:1,[redacted]@h:2"),
        ("LLAMERO_PRELOAD", "llama3:8b@sha256:abc,m", "llama3:8b@sha256:abc,m"),
        ("LLAMERO_TLS_KEY", "/srv/a@b/tls.pem", "/srv/a@b/tls.pem"),
        ("LLAMERO_API_KEYS_FILE", "a@b/keys", "a@b/keys"),
        ("OLLAMA_BASE_URL", "http://h/p@x", "http://h/p@x"),
    ],
)
def test_what_stays_of_an_address(name: str, text: str, seen: str) -> None:
    assert shown(BY_NAME[name], text) == seen


def test_mirrors_and_peers_are_base_urls_by_host() -> None:
    settings = Settings.from_env(
        {
            "LLAMERO_MIRRORS": "Registry.Ollama.ai=http://u:p@near:5000/x/|https://far, hf.co=ftp://none",
            "LLAMERO_PEERS": "http://box:11434/, box2:11434",
        }
    )
    assert settings.mirrors == {"registry.ollama.ai": ("http://u:p@near:5000/x", "https://far")}
    assert settings.peers == ("http://box:11434",)
    assert [warning.split("key=")[1].split()[0] for warning in settings.warnings] == [
        "LLAMERO_MIRRORS",
        "LLAMERO_PEERS",
    ]


@pytest.mark.parametrize(
    ("text", "share"), [("", "off"), ("0", "off"), ("1", "on"), ("true", "on"), ("through", "through")]
)
def test_sharing_has_three_settings(text: str, share: str) -> None:
    assert Settings.from_env({"LLAMERO_SHARE": text}).share == share


def test_a_registry_learns_the_proxies_and_an_engine_does_not() -> None:
    settings = Settings.from_env({"https_proxy": "http://p:3128", "HF_TOKEN": "hf_x", "PATH": "/bin"})
    assert settings.registry_env == {"https_proxy": "http://p:3128", "HF_TOKEN": "hf_x"}
    assert settings.engine_env == {"PATH": "/bin"}
    assert "hf_x" not in describe(settings.environment)


@pytest.mark.parametrize(("value", "where"), [("", "disk"), ("disk", "disk"), ("Memory", "memory"), ("off", "off")])
def test_where_responses_are_kept(value: str, where: str) -> None:
    assert settings(LLAMERO_RESPONSES=value).responses == where


@pytest.mark.parametrize(
    ("value", "how", "warnings"),
    [("", SPECULATION, 0), ("off", "off", 0), ("NGRAM", "ngram", 0), ("draft", SPECULATION, 1)],
)
def test_whether_repeated_text_is_guessed(value: str, how: str, warnings: int) -> None:
    read = settings(LLAMERO_SPECULATION=value)
    assert read.speculation == how
    assert len(read.warnings) == warnings


def test_responses_are_kept_on_disk_when_the_place_is_unknown() -> None:
    read = settings(LLAMERO_RESPONSES="cloud")
    assert read.responses == "disk"
    assert "default=disk" in read.warnings[0]


@pytest.mark.parametrize(("text", "size_bytes"), [("", None), ("0", 0), ("2GiB", 2 << 30), ("much", None)])
def test_the_prompt_cache_has_its_own_limit_unless_one_is_set(text: str, size_bytes: int | None) -> None:
    read = settings(LLAMERO_PREFIX_CACHE=text)
    assert read.prefix_cache_bytes == size_bytes
    assert len(read.warnings) == (text == "much")
