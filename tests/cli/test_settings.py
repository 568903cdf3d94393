"""`config`: what is shown of settings, and how config.toml is changed (cli §3.16, G-15)."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from llamero.cli.checkup.environment import config_file
from llamero.cli.target import find_target
from llamero.config import TABLE, parse_config
from tests.cli.conftest import Ollama
from tests.cli.scripted_server import Reply, ScriptedServer
from tests.running import free_port, running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where config.toml is, in a folder that is there."""
    path = tmp_path / ".ollama" / "llamero" / "config.toml"
    path.parent.mkdir(parents=True)
    return path


def rows(out: str) -> dict[str, tuple[str, str]]:
    """Value and origin by name."""
    cells = [line.split() for line in out.splitlines()[1:]]
    return {row[0]: (" ".join(row[1:-1]), row[-1]) for row in cells}


# --- looking ---------------------------------------------------------------------------------------------------------


def test_every_setting_with_its_value_and_who_decided_it(ollama: Ollama, path: Path) -> None:
    path.write_text(
        'keep_alive = "10m"\nmax_queue = 7\napi_key = "0123456789abcdef"\nhttps_proxy = "http://u:pw@p:1"\n'
    )
    path.chmod(0o600)
    outcome = ollama("config", env={"OLLAMA_MAX_QUEUE": "9", "HF_TOKEN": "hf_x"})
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.splitlines()[0].split() == ["NAME", "VALUE", "FROM"]
    shown = rows(outcome.out)
    assert shown.keys() == {variable.name for variable in TABLE}
    assert shown["OLLAMA_KEEP_ALIVE"] == ("10m", "config.toml")
    assert shown["OLLAMA_MAX_QUEUE"] == ("9", "environment")
    assert shown["OLLAMA_LOAD_TIMEOUT"] == ("5m", "default")
    assert shown["OLLAMA_API_KEY"] == ("[set]", "config.toml")
    assert shown["HF_TOKEN"] == ("[set]", "environment")
    assert shown["HTTPS_PROXY"] == ("http://[redacted]@p:1", "config.toml")
    assert not any(secret in outcome.out for secret in ("0123456789abcdef", "hf_x", "pw"))


def test_as_json(ollama: Ollama, path: Path) -> None:
    path.write_text('origins = ["https://a", "https://b"]\n')
    everything = {row["name"]: row for row in json.loads(ollama("config", "--json").out)}
    assert everything["OLLAMA_ORIGINS"] == {
        "name": "OLLAMA_ORIGINS",
        "key": "origins",
        "value": "https://a,https://b",
        "from": "config.toml",
        "meaning": "A comma separated list of allowed origins",
    }
    assert json.loads(ollama("config", "get", "origins", "--json").out) == everything["OLLAMA_ORIGINS"]


def test_one_value_by_key_or_by_variable(ollama: Ollama, path: Path) -> None:
    path.write_text('keep_alive = "10m"\n')
    for name in ("keep_alive", "OLLAMA_KEEP_ALIVE"):
        assert ollama("config", "get", name).out == "10m\n"
    assert ollama("config", "get", "http_proxy", env={"http_proxy": "http://u:p@h"}).out == "http://[redacted]@h\n"
    assert ollama("config", "get", "HOME", env={"HOME": str(path.parents[2])}).out == f"{path.parents[2]}\n"


def test_what_is_wrong_with_settings_is_said_beside_them(ollama: Ollama, path: Path) -> None:
    path.write_text("num_paralel = 2\n")
    outcome = ollama("config", env={"OLLAMA_HOTS": "x"})
    assert outcome.status == 0
    assert outcome.err == (
        f"Warning: {path}:1: num_paralel is no setting and has no effect; num_parallel was meant?\n"
        "Warning: OLLAMA_HOTS is not a variable of this program and has no effect\n"
    )


def test_the_path_and_an_example(ollama: Ollama, path: Path) -> None:
    assert ollama("config", "path").out == f"{path}\n"
    assert '\n# The duration that models stay loaded in memory (OLLAMA_KEEP_ALIVE)\n# keep_alive = "5m"\n' in (
        ollama("config", "example").out
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("set keep_alive", "say `ollama config`, or"),
        ("show", "say `ollama config`, or"),
        ("get kep_alive", "kep_alive is no setting; keep_alive was meant?"),
        ("get zzz", "zzz is no setting; `ollama config` lists all"),
        ("set HOME /x", "HOME can only be set in the environment"),
        ("set max_queue many", "max_queue must be a whole number from 0 on, not a text"),
        ("set max_queue -- -1", "max_queue must be a whole number from 0 on, not -1"),
        ("set keep_alive soon", 'keep_alive must be seconds, or a time like "5m" or "1h30m", not "soon"'),
        ("set noprune maybe", "noprune must be true or false, not a text"),
        ("set max_queue 1 2", "max_queue takes one value, not 2"),
        ("unset max_queue", "config.toml does not set max_queue"),
    ],
)
def test_wrong_words(ollama: Ollama, path: Path, words: str, message: str) -> None:
    outcome = ollama("config", *words.split())
    assert (outcome.status, outcome.out) == (1, "")
    assert message in outcome.err
    assert not path.exists()


# --- changing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("keep_alive 30m", "30m"),
        ("OLLAMA_KEEP_ALIVE 600", 600),
        ("keep_alive -- -1", -1),
        ("max_queue 7", 7),
        ("noprune 1", True),
        ("noprune false", False),
        ("flash_attention true", True),
        ("share through", "through"),
        ("debug 2", 2),
        ("debug true", True),
        ("max_body 64MiB", "64MiB"),
        ("origins https://a https://b,https://c", ["https://a", "https://b", "https://c"]),
        ("host 127.0.0.1:9000", "127.0.0.1:9000"),
        ("host 127.0.0.1:9000 [::1]:9000", ["127.0.0.1:9000", "[::1]:9000"]),
        ("models /data/my models", None),
    ],
)
def test_a_setting_is_written_with_its_type(ollama: Ollama, path: Path, words: str, value: object) -> None:
    name, *values = words.split(" ", 1) if value is None else words.split()
    outcome = ollama("config", "set", name, *values, env={"OLLAMA_HOST": ""})
    assert (outcome.status, outcome.err) == (0, "")
    (written,) = tomllib.loads(path.read_text()).values()
    assert written == ("/data/my models" if value is None else value)
    assert type(written) is type(value) or value is None
    assert outcome.out == f"{path.read_text().strip()} is in {path} now; a server reads it when it starts\n"


def test_comments_and_order_stay_and_the_file_is_its_owners(ollama: Ollama, path: Path) -> None:
    path.write_text(
        '# mine\nmax_queue = 3   # enough\n\n# later\norigins = [\n  "https://a", # one\n]\n\n[unknown]\nkey = 1\n'
    )
    path.chmod(0o644)
    for words in (("max_queue", "9"), ("keep_alive", "1m"), ("origins", "https://b")):
        assert ollama("config", "set", *words).status == 0
    text = path.read_text()
    assert "# mine\nmax_queue = 9   # enough\n\n# later\norigins = " in text
    assert tomllib.loads(text) == {"max_queue": 9, "origins": ["https://b"], "keep_alive": "1m", "unknown": {"key": 1}}
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["config.toml"], "no draft stays behind"
    assert ollama("config", "unset", "OLLAMA_MAX_QUEUE").out == (
        f"max_queue is no longer in {path}; a server takes its default when it starts\n"
    )
    assert "max_queue" not in tomllib.loads(path.read_text())
    assert "# later" in path.read_text()


def test_the_folder_is_made_for_its_owner_alone(ollama: Ollama, tmp_path: Path) -> None:
    assert ollama("config", "set", "max_queue", "3").status == 0
    assert (tmp_path / ".ollama" / "llamero").stat().st_mode & 0o777 == 0o700


def test_a_secret_comes_from_stdin_and_is_not_shown(ollama: Ollama, path: Path) -> None:
    outcome = ollama("config", "set", "api_key", "-", stdin="0123456789abcdef\n")
    assert outcome.out == f"api_key is in {path} now; a server reads it when it starts\n"
    assert tomllib.loads(path.read_text()) == {"api_key": "0123456789abcdef"}
    assert "0123" not in ollama("config", "set", "peers", "http://u:0123@h").out


def test_a_link_stays_a_link(ollama: Ollama, path: Path, tmp_path: Path) -> None:
    """Whoever keeps settings in a folder of their own links to them."""
    real = tmp_path / "dotfiles" / "config.toml"
    real.parent.mkdir()
    real.write_text("# kept elsewhere\n")
    path.symlink_to(real)
    ollama("config", "set", "max_queue", "3")
    assert path.is_symlink()
    assert real.read_text() == "# kept elsewhere\nmax_queue = 3\n"


def test_a_variable_that_wins_over_the_file_is_told(ollama: Ollama, path: Path) -> None:
    outcome = ollama("config", "set", "max_queue", "3", env={"OLLAMA_MAX_QUEUE": "9"})
    assert outcome.err == "Warning: OLLAMA_MAX_QUEUE is set in the environment here, which wins\n"
    assert outcome.status == 0


# --- a file that cannot be used --------------------------------------------------------------------------------------


BROKEN = "max_queue = many\n"


@pytest.mark.parametrize("argv", [["serve"], ["config"], ["config", "set", "max_queue", "3"], ["config", "unset", "x"]])
def test_a_broken_file_stops_what_depends_on_it_with_one_line(ollama: Ollama, path: Path, argv: list[str]) -> None:
    path.write_text(BROKEN)
    outcome = ollama(*argv)
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == f"Error: {path}: Invalid value (at line 1, column 13)\n"
    assert path.read_text() == BROKEN, "what a person wrote is not lost"


@pytest.mark.parametrize(
    "argv", [["--help"], ["serve", "--help"], ["config", "path"], ["config", "example"], ["upgrade"]]
)
def test_it_never_stops_help(ollama: Ollama, path: Path, argv: list[str]) -> None:
    path.write_text(BROKEN)
    outcome = ollama(*argv)
    assert (outcome.status, outcome.err) == (0, "")


def test_it_never_stops_version_or_a_command_that_asks_a_server(
    ollama: Ollama, server: ScriptedServer, path: Path
) -> None:
    path.write_text(BROKEN)
    server.replies["GET /api/version"] = Reply(json={"version": "9.9.9"})
    server.replies["GET /api/tags"] = Reply(json={"models": []})
    warning = f"Warning: {path}: Invalid value (at line 1, column 13); the file is not used\n"
    for argv in (["--version"], ["list"]):
        outcome = ollama(*argv)
        assert (outcome.status, outcome.err) == (0, warning)
        assert outcome.out


def test_a_client_talks_to_the_server_of_the_file(ollama: Ollama, server: ScriptedServer, path: Path) -> None:
    server.replies["GET /api/version"] = Reply(json={"version": "9.9.9"})
    path.write_text(f'host = "{server.address}"\nkv_cache_type = "nonsense"\nunknown = 1\n')
    outcome = ollama("--version", env={"OLLAMA_HOST": ""})
    assert outcome.out.startswith("ollama version is 9.9.9\n")
    assert outcome.err == "", "what concerns servers is not a client's business"


def test_a_real_server_listens_where_the_file_says_and_tells_so(tmp_path: Path) -> None:
    folder = tmp_path / "home" / ".ollama" / "llamero"
    folder.mkdir(parents=True)
    port = free_port()
    (folder / "config.toml").write_text(f'host = "127.0.0.1:{port}"\nnum_paralel = 2\nkeep_alive = "7m"\n')
    with running(tmp_path, tmp_path / "models", port=port, OLLAMA_HOST="") as server:
        log = server.log.read_text()
    assert f'msg="Listening on 127.0.0.1:{port} (via config.toml) (version ' in log
    assert "num_parallel was meant?" in log
    assert "OLLAMA_KEEP_ALIVE:7m" in log


def test_the_greeting_tool_reads_it_below_its_own_file(tmp_path: Path) -> None:
    file = parse_config('host = "box:1"\napi_key = "0123456789abcdef"', tmp_path / "config.toml")
    found = find_target({}, tmp_path, file)
    assert (found.url, found.env["OLLAMA_API_KEY"]) == ("http://box:1", "0123456789abcdef")
    (tmp_path / ".env").write_text("OLLAMA_HOST=box:2\n")
    assert find_target({}, tmp_path, file).url == "http://box:2"
    assert find_target({"OLLAMA_HOST": "box:3"}, tmp_path, file).url == "http://box:3"


def test_doctor_tells_what_is_wrong_with_it() -> None:
    path = Path("/c/config.toml")
    assert list(config_file(parse_config("max_queue = 3", path))) == []
    (broken,) = config_file(parse_config(BROKEN, path))
    assert (broken.level, broken.subject, broken.advice) == ("fail", "config.toml", "mend it: no server starts with it")
    (unknown,) = config_file(parse_config("num_paralel = 3", path))
    assert (unknown.level, unknown.status.partition(": ")[2][:11]) == ("warn", "num_paralel")
