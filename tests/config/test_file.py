"""`config.toml` under the environment: what it may say, what is said about it (cli §10.3, G-15)."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero import durations
from llamero.config import (
    BY_KEY,
    TABLE,
    Settings,
    as_text,
    config_path,
    describe,
    nearest_key,
    parse_config,
    read_config,
)
from llamero.config.example import example
from llamero.config.file import MAX_FILE_BYTES

PATH = Path("/c/config.toml")
SESSION = {"HOME", "LLAMERO_HOME", "XDG_CONFIG_HOME", "VISUAL", "EDITOR", "TERM", "CI", "NO_COLOR"}


def settings(text: str, **env: str) -> Settings:
    return Settings.from_env({"HOME": "/h", **env}, parse_config(text, PATH))


# --- keys ------------------------------------------------------------------------------------------------------------


def test_every_setting_has_a_key_but_those_of_the_session() -> None:
    assert {variable.name for variable in TABLE if not variable.key} == SESSION
    assert len(BY_KEY) == len(TABLE) - len(SESSION), "two settings have the same key"


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("trusted_proxies", "LLAMERO_TRUSTED_PROXIES"),
        ("keep_alive", "OLLAMA_KEEP_ALIVE"),
        ("llama_server", "LLAMERO_LLAMA_SERVER"),
        ("editor", "OLLAMA_EDITOR"),
        ("https_proxy", "HTTPS_PROXY"),
        ("cuda_visible_devices", "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_a_key_is_the_name_in_small_letters_without_its_beginning(key: str, name: str) -> None:
    assert BY_KEY[key].name == name


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("num_paralel", "num_parallel"),
        ("keep-alive", "keep_alive"),
        ("OLLAMA_HOST", "host"),
        ("Models", "models"),
        ("llamero_peer", "peers"),
        ("zzz", ""),
        ("home", ""),
    ],
)
def test_a_key_that_does_not_exist_is_a_warning_with_the_nearest_one(written: str, meant: str) -> None:
    file = parse_config(f"max_queue = 3\n{written} = 1\n", PATH)
    hint = f"; {meant} was meant?" if meant else ""
    assert nearest_key(written) == meant
    assert file.warnings == (f"/c/config.toml:2: {written} is no setting and has no effect{hint}",)
    assert file.texts == {"OLLAMA_MAX_QUEUE": "3"}, "the rest of the file counts"


def test_a_table_is_no_setting() -> None:
    (warning,) = parse_config('[limits]\nkeep_alive = "1m"\n', PATH).warnings
    assert warning.startswith("/c/config.toml:1: limits is no setting")


def test_a_strange_key_is_told_without_its_control_characters() -> None:
    (warning,) = parse_config('"a\\u001b[2J\\nb" = 1', PATH).warnings
    assert warning.isprintable()


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "name", "text"),
    [
        ("noprune = true", "OLLAMA_NOPRUNE", "1"),
        ("noprune = false", "OLLAMA_NOPRUNE", "0"),
        ("flash_attention = true", "OLLAMA_FLASH_ATTENTION", "1"),
        ('flash_attention = "auto"', "OLLAMA_FLASH_ATTENTION", ""),
        ('share = "through"', "LLAMERO_SHARE", "through"),
        ("debug = 2", "OLLAMA_DEBUG", "2"),
        ("debug = -1", "OLLAMA_DEBUG", "-1"),
        ("debug = true", "OLLAMA_DEBUG", "1"),
        ("num_parallel = 4", "OLLAMA_NUM_PARALLEL", "4"),
        ('keep_alive = "1h30m"', "OLLAMA_KEEP_ALIVE", "1h30m"),
        ("keep_alive = -1", "OLLAMA_KEEP_ALIVE", "-1"),
        ("max_body = 1024", "LLAMERO_MAX_BODY", "1024"),
        ('max_body = "1 MiB"', "LLAMERO_MAX_BODY", "1 MiB"),
        ('models = "~/m"', "OLLAMA_MODELS", "~/m"),
        ('origins = ["https://a", "https://b"]', "OLLAMA_ORIGINS", "https://a,https://b"),
        ('origins = "https://a"', "OLLAMA_ORIGINS", "https://a"),
        ("origins = []", "OLLAMA_ORIGINS", ""),
        ('host = ["127.0.0.1:1", "[::1]:2"]', "OLLAMA_HOST", "127.0.0.1:1,[::1]:2"),
        ("cuda_visible_devices = 1", "CUDA_VISIBLE_DEVICES", "1"),
        ('max_queue = ""', "OLLAMA_MAX_QUEUE", ""),
    ],
)
def test_values_become_what_the_environment_would_hold(line: str, name: str, text: str) -> None:
    file = parse_config(line, PATH)
    assert (file.texts, file.warnings, file.problem) == ({name: text}, (), "")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('noprune = "yes"', "noprune must be true or false, not a text"),
        ("noprune = 1", "noprune must be true or false, not 1"),
        ("num_parallel = -1", "num_parallel must be a whole number from 0 on, not -1"),
        ("num_parallel = true", "num_parallel must be a whole number from 0 on, not true"),
        ("num_parallel = 1.5", "num_parallel must be a whole number from 0 on, not a number with a point"),
        ('keep_alive = "5 minutes"', 'keep_alive must be seconds, or a time like "5m" or "1h30m", not "5 minutes"'),
        ('max_body = "big"', 'max_body must be bytes, or a size like "512MB" or "64MiB", not "big"'),
        ("models = 3.0", "models must be a path in quotes, not a number with a point"),
        ("origins = [1]", 'origins must be a list of texts, like ["a", "b"], not such a list'),
        (
            'host = ["h:1", "u:pw@h:66000"]',
            'host must be an address like "127.0.0.1:11434", or a list of them, not "h:66000"',
        ),
        ('models = "a\\nb"', "models must not hold control characters or line breaks"),
        ("api_key = true", "api_key must be a text in quotes, not true"),
        ("editor = 2026-01-01", "editor must be a text in quotes, not a date"),
        ("keep_alive = {a = 1}", 'keep_alive must be seconds, or a time like "5m" or "1h30m", not a table'),
        (f"max_queue = {2**63}", "max_queue must be a whole number from 0 on, not that large a number"),
    ],
)
def test_a_value_of_the_wrong_type_is_an_error_with_file_key_and_line(line: str, problem: str) -> None:
    file = parse_config(f"# a comment\nmax_loaded_models = 1\n\n{line}\n", PATH)
    assert file.problem == f"/c/config.toml:4: {problem}"
    assert not file.texts, "nothing of a file that cannot be right is used"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("keep_alive = 5m", "(at line 1, column 15)"),
        ("a = 1\na = 2", "Cannot overwrite a value (at end of document)"),
        ("x = " + "[" * 5000, "it is nested too deeply"),
        ("max_queue = " + "9" * 5000, "a number in it is too long"),
    ],
)
def test_what_is_no_toml_is_told(text: str, problem: str) -> None:
    file = parse_config(text, PATH)
    assert file.problem.startswith("/c/config.toml: ")
    assert file.problem.endswith(problem)


@given(st.text())
def test_no_text_raises(text: str) -> None:
    file = parse_config(text, PATH)
    assert not (file.problem and file.texts)


@given(st.sampled_from([variable.kind for variable in TABLE]), st.integers() | st.text() | st.booleans() | st.floats())
def test_a_value_is_read_or_refused_in_one_line(kind: str, value: object) -> None:
    try:
        said = as_text(kind, value)  # type: ignore[arg-type]
    except ValueError as error:
        said = str(error)
    assert said.isprintable()


# --- under the environment -------------------------------------------------------------------------------------------


def test_the_environment_wins_over_the_file_and_the_file_over_the_default() -> None:
    made = settings('keep_alive = "10m"\nmax_queue = 7\n', OLLAMA_KEEP_ALIVE="1m", OLLAMA_MAX_QUEUE=" ")
    assert made.keep_alive_ns == durations.MINUTE
    assert made.max_queue == 7, "an empty variable says nothing"
    assert made.num_parallel == 0
    assert made.warnings == ()


def test_addresses_of_the_file_are_told_as_its_own() -> None:
    made = settings('host = ["127.0.0.1:9000", "[::1]:9001"]')
    assert [host.netloc for host in made.listen] == ["127.0.0.1:9000", "[::1]:9001"]
    assert made.listen_via == "config.toml"
    assert settings('host = ":9"', OLLAMA_HOST=":8").listen_via == "OLLAMA_HOST"


def test_a_proxy_in_small_letters_wins_as_well() -> None:
    file = parse_config('https_proxy = "http://file"\nno_proxy = ["a", "b"]', PATH)
    assert file.under({"https_proxy": "http://env"}) == {"https_proxy": "http://env", "NO_PROXY": "a,b"}


def test_engines_and_registries_see_the_file_as_they_see_the_environment() -> None:
    made = settings('cuda_visible_devices = "0"\nhf_token = "hf_x"\nhttps_proxy = "http://p"')
    assert made.engine_env == {"CUDA_VISIBLE_DEVICES": "0"}
    assert made.registry_env == {"HF_TOKEN": "hf_x", "HTTPS_PROXY": "http://p"}
    assert "HF_TOKEN:[set]" in describe(made.environment)


def test_a_word_that_no_setting_knows_is_told_as_the_files() -> None:
    (warning,) = settings('kv_cache_type = "q3_k"').warnings
    assert warning == "invalid value in config.toml, using default key=OLLAMA_KV_CACHE_TYPE value=q3_k default="


def test_a_file_that_cannot_be_used_is_one_warning() -> None:
    made = settings("max_queue = -1\n")
    assert made.warnings == (
        "/c/config.toml:1: max_queue must be a whole number from 0 on, not -1; the file is not used",
    )
    assert made.max_queue == 512


def test_the_example_has_every_setting_and_changes_nothing() -> None:
    text = example()
    assert tomllib.loads(text) == {}
    lines = [line.removeprefix("# ") for line in text.splitlines() if " = " in line]
    file = parse_config("\n".join(lines), PATH)
    assert (file.problem, file.warnings) == ("", ())
    assert file.texts.keys() == {variable.name for variable in TABLE if variable.key}
    # paths are shown as they are at home, which need not be where LLAMERO_HOME is
    made = Settings.from_env({"HOME": str(Path.home())}, file)
    plain = Settings.from_env({"HOME": str(Path.home())})
    differing = {name for name in Settings.__slots__ if getattr(made, name) != getattr(plain, name)}
    spelt_out = {"environment", "engine_env", "registry_env", "listen_via", "warnings"}
    # f16 is what no type means too; and a file of keys that is named must exist
    assert differing <= spelt_out | {"kv_cache_type", "keys_file"}


# --- the file itself -------------------------------------------------------------------------------------------------


def test_where_it_is() -> None:
    assert config_path({"HOME": "/h"}) == Path("/h/.ollama/llamero/config.toml")
    assert config_path({"HOME": "/h", "LLAMERO_HOME": "/own"}) == Path("/own/llamero/config.toml")


def test_no_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "config.toml", tmp_path / "file" / "config.toml"):
        file = read_config(path)
        assert (file.texts, file.warnings, file.problem) == ({}, (), "")


@pytest.mark.parametrize(
    "line",
    ['api_key = "0123456789abcdef"', 'hf_token = "hf_x"', 'https_proxy = "http://u:p@h"', 'peers = ["http://u:p@h"]'],
)
def test_a_file_with_a_secret_must_be_its_owners_alone(tmp_path: Path, line: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"max_queue = 3\n{line}\n")
    path.chmod(0o640)
    file = read_config(path)
    key = line.partition(" ")[0]
    assert file.problem == f"{path} holds a secret ({key}) that others can read: chmod 600 {path}"
    assert not file.texts
    path.chmod(0o600)
    assert len(read_config(path).texts) == 2


def test_paths_and_numbers_about_keys_are_no_secrets(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('tls_key = "/etc/key.pem"\nmax_concurrent_per_key = 3\napi_key = ""\n')
    path.chmod(0o644)
    assert not read_config(path).problem


def test_what_is_no_file_or_too_large_is_told_and_nothing_hangs(tmp_path: Path) -> None:
    pipe, large, binary, folder = (tmp_path / name for name in ("pipe", "large", "binary", "folder"))
    os.mkfifo(pipe)
    large.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    binary.write_bytes(b"a = '\xff'")
    folder.mkdir()
    problems = [read_config(path).problem for path in (pipe, large, binary, folder)]
    assert problems == [
        f"{pipe}: it is no file",
        f"{large}: it is larger than {MAX_FILE_BYTES} bytes",
        f"{binary}: it is not UTF-8",
        f"{folder}: it is no file",
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xef\xbb\xbfmax_queue = 3\r\n")
    assert read_config(path).texts == {"OLLAMA_MAX_QUEUE": "3"}
