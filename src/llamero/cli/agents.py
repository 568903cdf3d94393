"""The coding agents that `launch` knows, and how each is told where a server is (cli §3.13). Pure: it starts none.

Most take all of it from their environment and their arguments, so that nothing of the user's is changed. Some read it
from a file alone; others read a file too, which `launch --config` writes for those who start the agent by itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadRequest

PLACEHOLDER_KEY = "ollama"
"""For agents that want a key where the server wants none."""
PROVIDER = "ollama-launch"
"""What the server is called in the files and arguments of Codex, as by the reference."""
DROID_OUTPUT_TOKENS = 32_000
"""Droid has to be told how much a model may write at a time."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Aim:
    """What an agent is pointed at."""

    url: str
    """The server's address, as Anthropic's API has it."""
    key: str
    """Empty when the server wants none."""
    model: str
    window_tokens: int = 0
    """The context that it was loaded with; 0 when nobody knows. Agents summarise in time when they are told."""

    @property
    def openai_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def any_key(self) -> str:
        return self.key or PLACEHOLDER_KEY


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file of an agent's own in which it is told."""

    path: Callable[[Mapping[str, str], Path], Path]
    """Where it is, from the environment and the home directory."""
    changed: Callable[[str, Aim], str]
    """Its text afterwards, from what it was. BadRequest when that cannot be read."""
    then: str
    """How the agent is started by itself, to use it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    name: str
    title: str
    program: str
    install: str
    """The command that installs it."""
    aliases: tuple[str, ...] = ()
    environment: Callable[[Aim], Mapping[str, str]] = lambda aim: {}
    arguments: Callable[[Aim], Sequence[str]] = lambda aim: ()
    config: ConfigFile | None = None
    needs_config: bool = False
    """The file is the only way."""


# --- files ---------------------------------------------------------------------------------------------------------


def _json_file(change: Callable[[Document, Aim], None]) -> Callable[[str, Aim], str]:
    """A change of a JSON object that leaves the rest of it as it is."""

    def changed(text: str, aim: Aim) -> str:
        try:
            document = json.loads(text or "{}")
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise BadRequest("it is not a JSON object; comments in it cannot be kept, so nothing was changed")
        change(document, aim)
        return json.dumps(document, ensure_ascii=False, indent=2) + "\n"

    return changed


def _section(document: Document, name: str) -> Document:
    """An object inside the document, made when it is not there."""
    found = document.setdefault(name, {})
    if not isinstance(found, dict):
        raise BadRequest(f'its "{name}" is not an object; nothing was changed')
    return found


def _in_home(*parts: str) -> Callable[[Mapping[str, str], Path], Path]:
    return lambda env, home: home.joinpath(*parts)


def _in_folder(variable: str, default: Sequence[str], *parts: str) -> Callable[[Mapping[str, str], Path], Path]:
    """Below the folder that a variable names, else below `default` in the home directory."""
    return lambda env, home: (Path(env[variable]) if env.get(variable) else home.joinpath(*default)).joinpath(*parts)


# --- Claude Code ---------------------------------------------------------------------------------------------------

_CLAUDE_MODELS = (
    "ANTHROPIC_MODEL",
    "ANTHROPIC_DEFAULT_OPUS_MODEL",
    "ANTHROPIC_DEFAULT_SONNET_MODEL",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL",
    "CLAUDE_CODE_SUBAGENT_MODEL",
)
"""It asks several models for several things; here all are the same."""


def _claude_environment(aim: Aim) -> dict[str, str]:
    # an empty key of Anthropic's: with one of the user's own it would send both, and ask which to take
    reach = {"ANTHROPIC_BASE_URL": aim.url, "ANTHROPIC_AUTH_TOKEN": aim.any_key, "ANTHROPIC_API_KEY": ""}
    window = {"CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(aim.window_tokens)} if aim.window_tokens else {}
    return reach | dict.fromkeys(_CLAUDE_MODELS, aim.model) | window


def _change_claude(document: Document, aim: Aim) -> None:
    _section(document, "env").update(_claude_environment(aim))


# --- Codex ---------------------------------------------------------------------------------------------------------


def _toml(text: str) -> str:
    """A basic string of TOML, whose escapes are JSON's."""
    return json.dumps(text)


def _codex_provider(aim: Aim) -> dict[str, str]:
    """The keys of its provider, as TOML. A variable with a key is only named when there is one: it must be set then."""
    provider = {"name": "Ollama", "base_url": aim.openai_url, "wire_api": "responses"}
    return provider | ({"env_key": "OLLAMA_API_KEY"} if aim.key else {})


def _codex_arguments(aim: Aim) -> list[str]:
    provider = ", ".join(f"{key} = {_toml(value)}" for key, value in _codex_provider(aim).items())
    settings = {
        "model": _toml(aim.model),
        "model_provider": _toml(PROVIDER),
        f"model_providers.{PROVIDER}": f"{{ {provider} }}",
    }
    if aim.window_tokens:
        settings["model_context_window"] = str(aim.window_tokens)
    return [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]


def _codex_file(text: str, aim: Aim) -> str:
    """A profile of its own, of which the user's settings know nothing."""
    provider = "".join(f"{key} = {_toml(value)}\n" for key, value in _codex_provider(aim).items())
    head = f"model = {_toml(aim.model)}\nmodel_provider = {_toml(PROVIDER)}\n"
    return f"{head}\n[model_providers.{PROVIDER}]\n{provider}"


# --- the others ----------------------------------------------------------------------------------------------------


def _opencode_provider(aim: Aim) -> Document:
    return {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Ollama",
        "options": {"baseURL": aim.openai_url, "apiKey": aim.any_key},
        "models": {aim.model: {"name": aim.model} | _opencode_limit(aim)},
    }


def _opencode_limit(aim: Aim) -> Document:
    return {"limit": {"context": aim.window_tokens, "output": aim.window_tokens // 4}} if aim.window_tokens else {}


def _change_opencode(document: Document, aim: Aim) -> None:
    document.setdefault("$schema", "https://opencode.ai/config.json")
    _section(document, "provider")["ollama"] = _opencode_provider(aim)
    document["model"] = f"ollama/{aim.model}"


def _opencode_environment(aim: Aim) -> dict[str, str]:
    document: Document = {}
    _change_opencode(document, aim)
    return {"OPENCODE_CONFIG_CONTENT": json.dumps(document)}


def _change_droid(document: Document, aim: Aim) -> None:
    wanted = f"custom:{aim.model}"
    others = document.get("customModels", [])
    if not isinstance(others, list):
        raise BadRequest('its "customModels" is not a list; nothing was changed')
    own = {
        "id": wanted,
        "model": aim.model,
        "displayName": f"{aim.model} (Ollama)",
        "baseUrl": aim.openai_url,
        "apiKey": aim.any_key,
        "provider": "generic-chat-completion-api",
        "maxOutputTokens": DROID_OUTPUT_TOKENS,
    }
    document["customModels"] = [own, *(each for each in others if not _is_droid_model(each, wanted))]
    _section(document, "sessionDefaultSettings")["model"] = wanted


def _is_droid_model(entry: Any, wanted: str) -> bool:
    return isinstance(entry, dict) and entry.get("id") == wanted


def _change_pi(document: Document, aim: Aim) -> None:
    _section(document, "providers")["ollama"] = {
        "baseUrl": aim.openai_url,
        "api": "openai-completions",
        "apiKey": aim.any_key,
        "models": [{"id": aim.model} | ({"contextWindow": aim.window_tokens} if aim.window_tokens else {})],
    }


def _copilot_environment(aim: Aim) -> dict[str, str]:
    return {
        "COPILOT_PROVIDER_TYPE": "openai",
        "COPILOT_PROVIDER_BASE_URL": aim.openai_url,
        "COPILOT_PROVIDER_API_KEY": aim.any_key,
        "COPILOT_PROVIDER_WIRE_API": "completions",
        "COPILOT_MODEL": aim.model,
    }


def _qwen_environment(aim: Aim) -> dict[str, str]:
    return {"OPENAI_BASE_URL": aim.openai_url, "OPENAI_API_KEY": aim.any_key, "OPENAI_MODEL": aim.model}


AGENTS: tuple[Agent, ...] = (
    Agent(
        name="claude",
        title="Claude Code",
        program="claude",
        install="npm install -g @anthropic-ai/claude-code",
        environment=_claude_environment,
        arguments=lambda aim: ("--model", aim.model),
        config=ConfigFile(
            _in_folder("CLAUDE_CONFIG_DIR", [".claude"], "settings.json"), _json_file(_change_claude), "claude"
        ),
    ),
    Agent(
        name="codex",
        title="Codex",
        program="codex",
        install="npm install -g @openai/codex",
        environment=lambda aim: {"OLLAMA_API_KEY": aim.key} if aim.key else {},
        arguments=_codex_arguments,
        config=ConfigFile(
            _in_folder("CODEX_HOME", [".codex"], f"{PROVIDER}.config.toml"), _codex_file, f"codex --profile {PROVIDER}"
        ),
    ),
    Agent(
        name="opencode",
        title="OpenCode",
        program="opencode",
        install="npm install -g opencode-ai",
        environment=_opencode_environment,
        config=ConfigFile(
            _in_folder("XDG_CONFIG_HOME", [".config"], "opencode", "opencode.json"),
            _json_file(_change_opencode),
            "opencode",
        ),
    ),
    Agent(
        name="copilot",
        title="GitHub Copilot CLI",
        program="copilot",
        install="npm install -g @github/copilot",
        aliases=("copilot-cli",),
        environment=_copilot_environment,
    ),
    Agent(
        name="droid",
        title="Droid",
        program="droid",
        install="npm install -g droid",
        config=ConfigFile(_in_home(".factory", "settings.json"), _json_file(_change_droid), "droid"),
        needs_config=True,
    ),
    Agent(
        name="pi",
        title="Pi",
        program="pi",
        install="npm install -g @earendil-works/pi-coding-agent",
        arguments=lambda aim: ("--provider", "ollama", "--model", aim.model),
        config=ConfigFile(
            _in_folder("PI_CODING_AGENT_DIR", [".pi", "agent"], "models.json"),
            _json_file(_change_pi),
            "pi --provider ollama",
        ),
        needs_config=True,
    ),
    Agent(
        name="qwen",
        title="Qwen Code",
        program="qwen",
        install="npm install -g @qwen-code/qwen-code",
        environment=_qwen_environment,
        arguments=lambda aim: ("--auth-type", "openai", "--model", aim.model),
    ),
)

BY_HAND = frozenset(
    (
        "chatgpt codex-app codex-desktop codex-gui hermes hermes-desktop openclaw clawdbot moltbot omp cline "
        "dsh deepseek-harness pool claude-desktop claude-app kimi muse muse-code vscode code"
    ).split()
)
"""Those that the reference sets up and this version does not: they have to be pointed here by hand."""


def find_agent(name: str) -> Agent | None:
    return next((agent for agent in AGENTS if name in (agent.name, *agent.aliases)), None)
