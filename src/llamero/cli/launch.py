"""`launch`: starts a coding agent with a model of this server (cli §3.13). How each is told is in `agents`.

On Unix the agent takes this process's place: its keys, its signals and its exit status are its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..client import Ask, Client, bearer
from ..errors import BadRequest, LlameroError, NotFound, ServerAnswered
from .agent_files import AgentFiles
from .agents import BY_HAND, Agent, Aim, ConfigFile, find_agent
from .app import App
from .choose import choose
from .delay import Delay
from .integrations import Integrations
from .progress import steps, waiting

LEAST_WINDOW_TOKENS = 16384
"""The instructions of an agent and the descriptions of its tools take some ten thousand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchFlags:
    model: str = ""
    config: bool = False
    restore: bool = False
    yes: bool = False


def launch(app: App, words: Sequence[str], extra: Sequence[str], flags: LaunchFlags) -> int:
    """Returns the agent's exit status, where it could not take this process's place."""
    agent = _named(app, words, extra, flags)
    files = AgentFiles(app.settings.home / "llamero" / "launch.json")
    if flags.restore:
        if extra or flags != LaunchFlags(restore=True):
            raise BadRequest("--restore cannot be combined with other flags or extra args")
        app.terminal.out(f"{files.restore(agent.name)}\n")
        return 0
    if flags.config and agent.config is None:
        raise BadRequest(
            f"{agent.title} has no file for this, only its environment: ollama launch {agent.name} starts it with that"
        )
    program = "" if flags.config else _program(agent, app.env)
    client = app.connect()
    remembered = Integrations(app.settings.home / "config.json", app.warn)
    model = flags.model or remembered.model(agent.name) or _choose(app, client, agent, flags)
    _check(app, client, agent, model, flags)
    window_tokens = 0 if flags.config else _loaded_window(app, client, agent, model)
    aim = _aim(app, model, window_tokens)
    if agent.config and (flags.config or agent.needs_config):
        _configure(app, agent, agent.config, files, aim, flags)
    remembered.remember(agent.name, model)
    if flags.config:
        return 0
    app.terminal.err(f"{agent.title} with {app.terminal.safe(model)}\n")
    return _start([program, *agent.arguments(aim), *extra], {**app.own_env, **agent.environment(aim)})


def _named(app: App, words: Sequence[str], extra: Sequence[str], flags: LaunchFlags) -> Agent:
    if not words:
        raise BadRequest("flags and extra args require an integration name: ollama launch claude --model NAME -- ARGS")
    name, *more = words
    if more:
        raise BadRequest(
            f"unexpected arguments: [{' '.join(more)}]; what is meant for the program goes behind --: "
            f"ollama launch {name} -- {' '.join([*more, *extra])}"
        )
    agent = find_agent(name.lower())
    if agent:
        return agent
    if name.lower() in BY_HAND:
        url = _aim(app, "").url
        raise BadRequest(
            f"{name} is not set up by this version; point it at {url}/v1 (OpenAI's API) or {url} (Anthropic's), "
            "with the name of a model"
        )
    raise BadRequest(f"unknown integration: {name}")


def _program(agent: Agent, env: Mapping[str, str]) -> str:
    found = shutil.which(agent.program, path=env.get("PATH"))
    if found is None:
        raise LlameroError(
            f"{agent.title} is not installed: there is no program {agent.program} on the PATH; "
            f"to install it: {agent.install}"
        )
    return found


def _choose(app: App, client: Client, agent: Agent, flags: LaunchFlags) -> str:
    if not app.terminal.is_interactive:
        what = "--yes needs --model" if flags.yes else "choosing a model requires a terminal; name one with --model"
        raise BadRequest(f"{what}: ollama launch {agent.name} --model NAME")
    names = [model.name for model in client.tags()]
    if not names:
        raise NotFound("there are no models yet; 'ollama pull' fetches one, 'ollama search' finds some")
    app.terminal.out(f"A model for {agent.title}:\n")
    try:
        (name,) = choose(app.terminal, "Which one", names, default=names[0], most=1)
    except EOFError:
        raise KeyboardInterrupt from None
    return name


def _check(app: App, client: Client, agent: Agent, model: str, flags: LaunchFlags) -> None:
    """That the model is there, pulling it where that is wanted, and can do what agents live on."""
    try:
        shown = client.show(model)
    except ServerAnswered as error:
        if error.status != NotFound.status:
            raise
        if not flags.yes and not _agreed(app, f'model "{model}" is not here. Pull it now?'):
            raise NotFound(
                f"model \"{model}\" not found; run 'ollama pull {model}' first, or use --yes to auto-pull"
            ) from error
        with steps(app.terminal) as display:
            display.follow_pull(client.pull(model))
        shown = client.show(model)
    if "tools" not in shown.capabilities:
        app.warn(f"{model} cannot call tools, without which {agent.title} changes no file and runs no command")


def _loaded_window(app: App, client: Client, agent: Agent, model: str) -> int:
    """Load the model, which the agent would do in silence, and see how long a context it has got."""
    with waiting(app.terminal, why=Delay(client, model).reason):
        client.load(Ask(model=model))
        running = client.ps().models
    window_tokens = next((each.context_tokens for each in running if each.name in (model, f"{model}:latest")), 0)
    if 0 < window_tokens < LEAST_WINDOW_TOKENS:
        app.warn(
            f"{model} has a context of {window_tokens} tokens, too few for what {agent.title} begins with; "
            "start the server with OLLAMA_CONTEXT_LENGTH=32768, or give the model a num_ctx"
        )
    return window_tokens


def _agreed(app: App, question: str) -> bool:
    """Off a terminal nobody can agree."""
    if not app.terminal.is_interactive:
        return False
    app.terminal.out(f"{app.terminal.safe(question)} [y/N]: ")
    return app.terminal.stdin.readline().strip().lower() in ("y", "yes")


def _aim(app: App, model: str, window_tokens: int = 0) -> Aim:
    host = app.settings.host
    if host.scheme not in ("http", "https"):
        raise BadRequest(f"agents talk http, and OLLAMA_HOST is {host.scheme}://; give the server a port for them")
    if host.user_info:
        raise BadRequest("agents send no user name and password; set OLLAMA_API_KEY instead of those in OLLAMA_HOST")
    return Aim(host.url, bearer(app.settings.api_key), model, window_tokens)


def _configure(app: App, agent: Agent, config: ConfigFile, files: AgentFiles, aim: Aim, flags: LaunchFlags) -> None:
    path = config.path(app.env, _user_home(app.env))
    before = files.read(path)
    try:
        after = config.changed(before, aim)
    except BadRequest as error:
        raise BadRequest(f"{path}: {error}") from None
    if after != before:
        if before and not flags.yes and not _agreed(app, f"Change {path}, and keep a copy of it?"):
            raise BadRequest(f"changing {path} requires confirmation; re-run with --yes to continue")
        backup = files.write(agent.name, path, after)
        kept = f" (before: {backup})" if backup else ""
        app.terminal.err(f"wrote {path}{kept}; 'ollama launch {agent.name} --restore' undoes it\n")
    if flags.config:
        app.terminal.out(f"{config.then}\n")


def _user_home(env: Mapping[str, str]) -> Path:
    """Where the agents look for their files; ours may be elsewhere."""
    return Path(env.get("HOME") or env.get("USERPROFILE") or Path.home())


def _start(argv: Sequence[str], env: Mapping[str, str]) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        if sys.platform == "win32":  # where a program cannot take another's place
            return subprocess.run(list(argv), env=dict(env), check=False).returncode
        os.execve(argv[0], list(argv), dict(env))
    except OSError as error:
        raise LlameroError(f"{argv[0]} cannot be started: {error.strerror}") from error
