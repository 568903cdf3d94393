"""`launch`: coding agents pointed at a server (cli §3.13). The agents are programs on the PATH that write down how they
were started; the command that starts them is the installed one."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llamero.cli.agents import AGENTS, BY_HAND
from tests.cli.conftest import Ollama, Outcome, command
from tests.cli.scripted_server import Reply, ScriptedServer, shown
from tests.cli.terminals import TerminalProgram
from tests.running import OLLAMA

AGENT = """#!{python}
import json, os, sys
with open({started!r}, "w") as file:
    json.dump({{"argv": sys.argv[1:], "env": dict(os.environ)}}, file)
sys.exit(7)
"""
STATUS = 7
"""Of every agent here: it has to come through."""


@dataclass(frozen=True)
class Agents:
    """A home and a folder of programs for one user."""

    folder: Path
    server: ScriptedServer

    @property
    def env(self) -> dict[str, str]:
        path = f"{self.folder / 'bin'}:/usr/bin:/bin"
        return {"HOME": str(self.folder), "PATH": path, "OLLAMA_HOST": self.server.address}

    def launch(self, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [OLLAMA, "launch", *argv], env=self.env | env, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )

    def set_up(self, *argv: str, **env: str) -> Outcome:
        """The same inside this process, which is quicker: for what starts no agent."""
        return command(self.server.address, self.folder)("launch", *argv, env=self.env | env)

    @property
    def started(self) -> Any:
        return json.loads((self.folder / "started").read_text())

    def text(self, name: str) -> str:
        return (self.folder / name).read_text()

    def put(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


@pytest.fixture
def agents(server: ScriptedServer, tmp_path: Path) -> Agents:
    server.replies |= {
        "POST /api/show": shown(capabilities=["completion", "tools"]),
        "POST /api/generate": Reply(json={"done": True, "done_reason": "load"}),
        "GET /api/ps": Reply(json={"models": []}),
    }
    found = Agents(tmp_path, server)
    for agent in AGENTS:
        program = found.put(
            f"bin/{agent.program}", AGENT.format(python=sys.executable, started=str(tmp_path / "started"))
        )
        program.chmod(0o755)
    return found


# --- how each is told ----------------------------------------------------------------------------------------------


def test_claude_is_told_by_its_environment(agents: Agents) -> None:
    done = agents.launch("claude", "--model", "qwen3", "--", "-p", "hi", "--model=other")
    assert (done.returncode, done.stdout, done.stderr) == (STATUS, "", "Claude Code with qwen3\n")
    assert agents.started["argv"] == ["--model", "qwen3", "-p", "hi", "--model=other"]
    env = agents.started["env"]
    assert env["ANTHROPIC_BASE_URL"] == f"http://{agents.server.address}"
    assert (env["ANTHROPIC_AUTH_TOKEN"], env["ANTHROPIC_API_KEY"]) == ("ollama", "")
    models = {name: value for name, value in env.items() if name.endswith("_MODEL")}
    assert len(models) == 5
    assert set(models.values()) == {"qwen3"}
    assert env["HOME"] == str(agents.folder)  # the rest of it is as it was
    assert not (agents.folder / ".claude").exists()


def test_codex_is_told_by_its_arguments(agents: Agents) -> None:
    assert agents.launch("codex", "--model", "qwen3", "--", "exec", "hi").returncode == STATUS
    argv = agents.started["argv"]
    assert argv[::2][:3] == ["-c", "-c", "-c"]
    assert argv[6:] == ["exec", "hi"]
    assert tomllib.loads("\n".join(argv[1:6:2])) == {
        "model": "qwen3",
        "model_provider": "ollama-launch",
        "model_providers": {
            "ollama-launch": {
                "name": "Ollama",
                "base_url": f"http://{agents.server.address}/v1",
                "wire_api": "responses",
            }
        },
    }
    assert not (agents.folder / ".codex").exists()


def test_opencode_is_told_inline(agents: Agents) -> None:
    assert agents.launch("opencode", "--model", "qwen3").returncode == STATUS
    told = json.loads(agents.started["env"]["OPENCODE_CONFIG_CONTENT"])
    assert told["model"] == "ollama/qwen3"
    provider = told["provider"]["ollama"]
    assert provider["options"] == {"baseURL": f"http://{agents.server.address}/v1", "apiKey": "ollama"}
    assert provider["models"] == {"qwen3": {"name": "qwen3"}}
    assert not (agents.folder / ".config").exists()


@pytest.mark.parametrize(
    ("name", "arguments", "variables"),
    [
        (
            "copilot-cli",  # an alias
            [],
            {
                "COPILOT_PROVIDER_TYPE": "openai",
                "COPILOT_PROVIDER_BASE_URL": "{url}/v1",
                "COPILOT_PROVIDER_API_KEY": "ollama",
                "COPILOT_PROVIDER_WIRE_API": "completions",
                "COPILOT_MODEL": "qwen3",
            },
        ),
        (
            "qwen",
            ["--auth-type", "openai", "--model", "qwen3"],
            {"OPENAI_BASE_URL": "{url}/v1", "OPENAI_API_KEY": "ollama", "OPENAI_MODEL": "qwen3"},
        ),
    ],
)
def test_others_have_variables_of_their_own(
    agents: Agents, name: str, arguments: list[str], variables: dict[str, str]
) -> None:
    assert agents.launch(name, "--model", "qwen3").returncode == STATUS
    assert agents.started["argv"] == arguments
    expected = {key: value.format(url=f"http://{agents.server.address}") for key, value in variables.items()}
    assert {key: agents.started["env"].get(key) for key in variables} == expected


def test_the_key_of_the_server_is_handed_on(agents: Agents) -> None:
    key = "infer:not-this-one-0001,admin:the-secret-of-all"
    agents.launch("claude", "--model", "m", OLLAMA_API_KEY=key)
    assert agents.started["env"]["ANTHROPIC_AUTH_TOKEN"] == "the-secret-of-all"
    agents.launch("codex", "--model", "m", OLLAMA_API_KEY=key)
    assert 'env_key = "OLLAMA_API_KEY"' in agents.started["argv"][5]
    assert agents.started["env"]["OLLAMA_API_KEY"] == "the-secret-of-all"
    assert "the-secret" not in " ".join(agents.started["argv"])  # where everybody on the machine can read it


def test_an_unspecified_address_becomes_loopback(agents: Agents) -> None:
    agents.launch("claude", "--model", "m", OLLAMA_HOST=f"0.0.0.0:{agents.server.port}")
    assert agents.started["env"]["ANTHROPIC_BASE_URL"] == f"http://127.0.0.1:{agents.server.port}"


def test_the_context_that_the_model_was_loaded_with_is_told(agents: Agents) -> None:
    """So that agents summarise in time; one that is too short for them is warned about."""
    loaded = {"name": "qwen3:latest", "context_length": 32768}
    agents.server.replies["GET /api/ps"] = Reply(json={"models": [loaded]})
    assert agents.launch("claude", "--model", "qwen3").stderr == "Claude Code with qwen3\n"
    assert agents.server.bodies("POST /api/generate") == [{"model": "qwen3"}]
    assert agents.started["env"]["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "32768"
    agents.launch("codex", "--model", "qwen3")
    assert agents.started["argv"][6:] == ["-c", "model_context_window=32768"]
    agents.launch("opencode", "--model", "qwen3")
    told = json.loads(agents.started["env"]["OPENCODE_CONFIG_CONTENT"])["provider"]["ollama"]["models"]["qwen3"]
    assert told["limit"] == {"context": 32768, "output": 8192}
    agents.launch("pi", "--model", "qwen3")
    (model,) = json.loads(agents.text(".pi/agent/models.json"))["providers"]["ollama"]["models"]
    assert model == {"id": "qwen3", "contextWindow": 32768}
    agents.server.replies["GET /api/ps"] = Reply(json={"models": [loaded | {"context_length": 4096}]})
    said = agents.launch("claude", "--model", "qwen3").stderr
    assert said.startswith("Warning: qwen3 has a context of 4096 tokens, too few for what Claude Code begins with")


def test_a_model_that_cannot_be_loaded_starts_nothing(agents: Agents) -> None:
    agents.server.replies["POST /api/generate"] = Reply(500, json={"error": "out of memory"})
    done = agents.set_up("claude", "--model", "m")
    assert (done.status, done.err) == (1, "Error: 500 Internal Server Error: out of memory\n")
    assert not (agents.folder / "started").exists()


# --- their files ---------------------------------------------------------------------------------------------------

SETTINGS = (
    '{\n  "theme": "dark",\n  "env": {\n    "EDITOR": "vi",\n    "ANTHROPIC_BASE_URL": "https://elsewhere"\n  }\n}\n'
)


def test_configuring_keeps_the_rest_and_can_be_undone(agents: Agents) -> None:
    path = agents.put(".claude/settings.json", SETTINGS)
    path.chmod(0o640)
    done = agents.set_up("claude", "--config", "--model", "qwen3")
    assert (done.status, agents.text(".claude/settings.json")) == (1, SETTINGS)
    assert done.err == f"Error: changing {path} requires confirmation; re-run with --yes to continue\n"

    done = agents.set_up("claude", "--config", "--model", "qwen3", "--yes")
    assert (done.status, done.out) == (0, "claude\n")  # how it is started now
    assert done.err.startswith(f"wrote {path} (before: {path}.before-ollama); 'ollama launch claude --restore'")
    assert not (agents.folder / "started").exists()
    written = json.loads(path.read_text())
    assert (written["theme"], written["env"]["EDITOR"]) == ("dark", "vi")
    assert written["env"]["ANTHROPIC_BASE_URL"] == f"http://{agents.server.address}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE((path.parent.parent / ".ollama" / "llamero").stat().st_mode) == 0o700

    agents.set_up("claude", "--config", "--model", "llama3.2", "--yes")  # what was before us stays what is put back
    assert json.loads(path.read_text())["env"]["ANTHROPIC_MODEL"] == "llama3.2"
    done = agents.set_up("claude", "--restore", OLLAMA_HOST="127.0.0.1:1")  # it asks no server
    assert (done.status, done.out, done.err) == (0, f"{path} is as it was before\n", "")
    assert path.read_text() == SETTINGS
    assert not list(path.parent.glob("*before*"))
    assert agents.set_up("claude", "--restore").out == "nothing was changed, so there is nothing to restore\n"


def test_a_file_that_somebody_changed_after_us_is_left_alone(agents: Agents) -> None:
    path = agents.put(".claude/settings.json", SETTINGS)
    agents.set_up("claude", "--config", "--model", "qwen3", "-y")
    path.write_text("{}")
    done = agents.set_up("claude", "--restore")
    assert (done.status, path.read_text()) == (1, "{}")
    assert done.err.startswith(f"Error: {path} was changed by somebody else since, and is left as it is; what it was")
    assert Path(f"{path}.before-ollama").read_text() == SETTINGS


@pytest.mark.parametrize("text", ["// mine\n{}", "[]", '{"env": []}', "\x00"])
def test_a_file_that_cannot_be_kept_is_not_touched(agents: Agents, text: str) -> None:
    path = agents.put(".claude/settings.json", text)
    done = agents.set_up("claude", "--config", "--model", "qwen3", "--yes")
    assert (done.status, path.read_text(), done.err.count("\n")) == (1, text, 1)
    assert "nothing was changed" in done.err


@pytest.mark.parametrize("answer", ["n", "y"])
def test_on_a_terminal_a_change_is_asked_for(agents: Agents, answer: str) -> None:
    path = agents.put(".claude/settings.json", SETTINGS)
    with TerminalProgram(["launch", "claude", "--config", "--model", "qwen3"], agents.env) as program:
        program.expect(r"settings\.json, and keep a copy of it\? \[y/N\]: ")
        program.type(f"{answer}\n")
        status = program.wait()
    assert (status, path.read_text() == SETTINGS) == ((0, False) if answer == "y" else (1, True))


def test_codex_gets_a_profile_of_its_own(agents: Agents) -> None:
    agents.put(".codex/config.toml", "model = 'mine'\n")
    done = agents.set_up("codex", "--config", "--model", "qwen3:8b")
    assert (done.status, done.out) == (0, "codex --profile ollama-launch\n")
    path = agents.folder / ".codex" / "ollama-launch.config.toml"
    profile = tomllib.loads(path.read_text())
    assert (profile["model"], profile["model_provider"]) == ("qwen3:8b", "ollama-launch")
    assert profile["model_providers"]["ollama-launch"]["base_url"] == f"http://{agents.server.address}/v1"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert agents.text(".codex/config.toml") == "model = 'mine'\n"
    assert agents.set_up("codex", "--restore").out == f"{path} is removed: there was none before\n"
    assert not path.exists()


def test_agents_that_only_have_a_file_are_told_there(agents: Agents) -> None:
    other = {"id": "custom:mine", "model": "mine"}
    agents.put(".factory/settings.json", json.dumps({"customModels": [other], "diffMode": "unified"}))
    assert agents.launch("droid", "--model", "qwen3", "--yes", "--", "exec").returncode == STATUS
    assert agents.started["argv"] == ["exec"]
    told = json.loads(agents.text(".factory/settings.json"))
    assert told["diffMode"] == "unified"
    assert told["sessionDefaultSettings"] == {"model": "custom:qwen3"}
    assert [each["id"] for each in told["customModels"]] == ["custom:qwen3", "custom:mine"]
    assert told["customModels"][0]["baseUrl"] == f"http://{agents.server.address}/v1"
    before = agents.text(".factory/settings.json")
    agents.launch("droid", "--model", "qwen3")  # nothing to change, so nothing to agree to
    assert agents.text(".factory/settings.json") == before

    assert agents.launch("pi", "--model", "qwen3", PI_CODING_AGENT_DIR=str(agents.folder / "pi")).returncode == STATUS
    assert agents.started["argv"] == ["--provider", "ollama", "--model", "qwen3"]
    provider = json.loads(agents.text("pi/models.json"))["providers"]["ollama"]
    assert (provider["api"], provider["models"]) == ("openai-completions", [{"id": "qwen3"}])


def test_a_linked_file_stays_a_link(agents: Agents) -> None:
    real = agents.put("dotfiles/claude.json", "{}\n")
    (agents.folder / ".claude").mkdir()
    link = agents.folder / ".claude" / "settings.json"
    link.symlink_to(real)
    agents.set_up("claude", "--config", "--model", "qwen3", "--yes")
    assert link.is_symlink()
    assert "qwen3" in real.read_text()


# --- models --------------------------------------------------------------------------------------------------------


def test_the_model_is_remembered_beside_what_others_wrote(agents: Agents) -> None:
    state = {"integrations": {"claude": {"models": ["old"], "onboarded": True}, "codex": {}}, "theirs": 1}
    path = agents.put(".ollama/config.json", json.dumps(state))
    agents.launch("claude", "--model", "qwen3")
    now = json.loads(path.read_text())
    assert now["integrations"]["claude"] == {"models": ["qwen3"], "onboarded": True}
    assert (now["last_model"], now["last_selection"], now["theirs"]) == ("qwen3", "claude", 1)
    agents.launch("claude")
    assert agents.started["argv"] == ["--model", "qwen3"]
    path.write_text("mine")
    assert agents.launch("claude", "--model", "m").stderr.startswith(f"Warning: {path} is not a JSON object")
    assert path.read_text() == "mine"


def test_a_missing_model_is_pulled_when_that_is_agreed_to(agents: Agents) -> None:
    missing = Reply(404, json={"error": "model 'm' not found"})
    agents.server.replies["POST /api/show"] = [missing, missing, shown(capabilities=["completion", "tools"])]
    agents.server.replies["POST /api/pull"] = Reply(lines=[{"status": "pulling manifest"}, {"status": "success"}])
    done = agents.launch("claude", "--model", "m")
    assert done.stderr == "Error: model \"m\" not found; run 'ollama pull m' first, or use --yes to auto-pull\n"
    done = agents.launch("claude", "--model", "m", "--yes")
    assert (done.returncode, done.stderr) == (STATUS, "pulling manifest\nsuccess\nClaude Code with m\n")


def test_a_model_without_tools_is_warned_about(agents: Agents) -> None:
    agents.server.replies["POST /api/show"] = shown()
    done = agents.launch("claude", "--model", "m")
    assert done.stderr.startswith("Warning: m cannot call tools, without which Claude Code changes no file")
    assert done.returncode == STATUS


def test_on_a_terminal_a_model_is_chosen(agents: Agents) -> None:
    agents.server.replies["GET /api/tags"] = Reply(json={"models": [{"name": "a:1"}, {"name": "b:2"}]})
    with TerminalProgram(["launch", "claude"], agents.env) as program:
        program.expect(r"A model for Claude Code:\r\n +1  a:1\r\n +2  b:2\r\nWhich one \[a:1\]: ")
        program.type("2\n")
        assert program.wait() == STATUS
    assert agents.started["argv"] == ["--model", "b:2"]


# --- what goes wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--model m", "flags and extra args require an integration name"),
        ("-- -p hi", "flags and extra args require an integration name"),
        ("claude -p", "unknown shorthand flag: 'p' in -p"),
        ("claude hi there", "unexpected arguments: [hi there]; what is meant for the program goes behind --"),
        ("bogus", "unknown integration: bogus"),
        ("cline", "cline is not set up by this version; point it at http://"),
        ("claude --restore --model m", "--restore cannot be combined with other flags or extra args"),
        ("claude --restore -- x", "--restore cannot be combined with other flags or extra args"),
        ("copilot --config", "GitHub Copilot CLI has no file for this, only its environment"),
        (
            "claude --model m",
            "Claude Code is not installed: there is no program claude on the PATH; to install it: npm install -g",
        ),
        ("claude --config", "choosing a model requires a terminal; name one with --model"),
        ("claude --config --yes", "--yes needs --model"),
    ],
)
def test_wrong_words_are_one_line(ollama: Ollama, tmp_path: Path, argv: str, message: str) -> None:
    outcome = ollama("launch", *argv.split(), env={"PATH": str(tmp_path)})
    assert (outcome.status, outcome.out, outcome.err.count("\n")) == (1, "", 1)
    assert outcome.err.startswith(f"Error: {message}")


def test_agents_cannot_send_what_a_url_holds(ollama: Ollama, server: ScriptedServer, tmp_path: Path) -> None:
    server.replies["POST /api/show"] = shown(capabilities=["tools"])
    host = {"OLLAMA_HOST": f"http://ada:s3cr3t@{server.address}"}
    outcome = ollama("launch", "codex", "--config", "--model", "m", env=host)
    assert outcome.err.startswith("Error: agents send no user name and password; set OLLAMA_API_KEY")
    assert "s3cr3t" not in outcome.err


def test_a_program_that_cannot_be_started_is_named(agents: Agents) -> None:
    program = agents.put("bin/claude", "#!/no/such/interpreter\n")
    done = agents.launch("claude", "--model", "m")
    assert done.stderr.endswith(f"Error: {program} cannot be started: No such file or directory\n")
    assert done.returncode == 1


def test_without_a_name_it_is_the_help(ollama: Ollama) -> None:
    assert ollama("launch") == ollama("--help")


def test_every_agent_of_the_reference_is_known() -> None:
    named = {name for agent in AGENTS for name in (agent.name, *agent.aliases)}
    assert not named & BY_HAND
    theirs = """
        claude chatgpt codex-app codex-desktop codex-gui hermes hermes-desktop openclaw clawdbot moltbot opencode codex
        copilot copilot-cli omp cline droid dsh deepseek-harness pi pool qwen claude-desktop claude-app kimi muse
        muse-code vscode code
    """
    assert named | BY_HAND == set(theirs.split())


def test_help_names_those_that_can_be_started(ollama: Ollama) -> None:
    listed = ollama("launch", "--help").out.partition("Integrations: ")[2].partition(".")[0]
    assert listed.split(", ") == sorted(agent.name for agent in AGENTS)
    assert os.linesep not in listed
