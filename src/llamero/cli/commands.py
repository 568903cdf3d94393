"""Every command of the program with its flags, in the order of the help (cli §2). What they do is imported late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from .app import App
from .grammar import Arity, Command, Root, at_least, exactly, flag

_ANY = Arity(0, None)
_WORDWRAP = "Leave lines as they come instead of breaking them between words"
_STATISTICS = "Show how long the answer took"
_INSECURE = "Ask the registry over plain HTTP"
_QUIET = "Show progress as plain lines"
_JSON = "Print the server's JSON"


@click.command("ollama", cls=Root, summary="Large language model runner")
@flag("--verbose", kind="bool", help=_STATISTICS)
@flag("--nowordwrap", kind="bool", help=_WORDWRAP)
@flag("-v", "--version", kind="bool", help="Show the version")
@flag("--json", kind="bool", hidden=True)
@click.pass_context
def root(ctx: click.Context, /, version: bool, json: bool, **accepted: Any) -> None:
    from . import version as versions

    if ctx.invoked_subcommand is not None:
        return
    app: App = ctx.obj
    if not version:
        # the reference opens a menu here; a script must get something that ends
        app.terminal.out(ctx.get_help())
    elif json:
        versions.show_version_json(app)
    else:
        versions.show_version(app)


def _command(
    name: str, usage: str, summary: str, arity: Arity, **attrs: Any
) -> Callable[[Callable[..., Any]], click.Command]:
    return root.command(name, cls=Command, usage=f"ollama {usage}", summary=summary, arity=arity, **attrs)


def _server_variables() -> list[str]:
    from ..config import TABLE

    return [variable.name for variable in TABLE if variable.in_help]


@_command("serve", "serve", "Start Ollama", exactly(0), aliases=["start"], variables=_server_variables())
@flag("--listen", multiple=True, help="Address to listen on instead of OLLAMA_HOST (repeatable)")
@click.pass_obj
def serve(app: App, /, words: tuple[str, ...], listen: tuple[str, ...]) -> None:
    from .serve import serve as run_server

    run_server(app, listen)


@_command("create", "create MODEL", "Create a model", exactly(1))
@flag("-f", "--file", help='Name of the Modelfile, "-" for standard input (default "Modelfile")')
@flag("-q", "--quantize", help="Quantize the model to this type (e.g. q4_K_M)")
@flag("--draft-quantize", help="Quantize the draft model to this type")
@flag("--quiet", kind="bool", help=_QUIET)
@click.pass_obj
def create(app: App, /, words: tuple[str, ...], file: str, quantize: str, draft_quantize: str, quiet: bool) -> None:
    from .create import create_model

    create_model(app, words[0], file, quantize=quantize, draft_quantize=draft_quantize, quiet=quiet)


@_command("show", "show MODEL", "Show information for a model", exactly(1))
@flag("--license", kind="bool", help="Show the licence of a model")
@flag("--modelfile", kind="bool", help="Show the Modelfile of a model")
@flag("--parameters", kind="bool", help="Show the parameters of a model")
@flag("--system", kind="bool", help="Show the system message of a model")
@flag("--template", kind="bool", help="Show the prompt template of a model")
@flag("-v", "--verbose", kind="bool", help="Show metadata and tensors too")
@flag("--json", kind="bool", help=_JSON)
@click.pass_obj
def show(app: App, /, words: tuple[str, ...], verbose: bool, json: bool, **texts: bool) -> None:
    from .models import TEXTS, show_model

    show_model(app, words[0], [name for name in TEXTS if texts[name]], verbose=verbose, as_json=json)


@_command(
    "run",
    "run MODEL [PROMPT]",
    "Run a model",
    at_least(1),
    variables=["OLLAMA_EDITOR", "OLLAMA_HOST", "OLLAMA_NOHISTORY"],
)
@flag("--keepalive", "keep_alive", help="How long the model stays loaded (e.g. 5m, -1 for ever)")
@flag("--verbose", kind="bool", help=_STATISTICS)
@flag("--insecure", kind="bool", help=_INSECURE)
@flag("--nowordwrap", kind="bool", help=_WORDWRAP)
@flag("--format", help="Format of the answer (json, or a JSON schema)")
@flag("--think", bare="true", default=None, help="Let the model think first: true, false, high, medium, low or max")
@flag("--hidethinking", "hide_thinking", kind="bool", help="Do not show what the model thinks")
@flag("--truncate", kind="bool", default=None, help="Cut an input that is too long (embedding models)")
@flag("--dimensions", kind="int", help="Length of the embedding (embedding models)")
@flag("--quiet", kind="bool", help=_QUIET)
@click.pass_obj
def run(app: App, /, words: tuple[str, ...], nowordwrap: bool, **flags: Any) -> None:
    from .run import RunFlags
    from .run import run as run_model

    run_model(app, words[0], words[1:], RunFlags(word_wrap=not nowordwrap, **flags))


@_command("stop", "stop MODEL", "Stop a running model", exactly(1))
@click.pass_obj
def stop(app: App, /, words: tuple[str, ...]) -> None:
    from .models import stop_model

    stop_model(app, words[0])


@_command("pull", "pull MODEL", "Pull a model from a registry", exactly(1))
@flag("--insecure", kind="bool", help=_INSECURE)
@flag("--quiet", kind="bool", help=_QUIET)
@click.pass_obj
def pull(app: App, /, words: tuple[str, ...], insecure: bool, quiet: bool) -> None:
    from .models import pull_model

    pull_model(app, words[0], insecure=insecure, quiet=quiet)


@_command("list", "list [PREFIX]", "List models", _ANY, aliases=["ls"])
@flag("--json", kind="bool", help=_JSON)
@click.pass_obj
def list_(app: App, /, words: tuple[str, ...], json: bool) -> None:
    from .models import list_models

    list_models(app, words[0] if words else "", as_json=json)


@_command("ps", "ps [PREFIX]", "List running models", _ANY)
@flag("--json", kind="bool", help=_JSON)
@click.pass_obj
def ps(app: App, /, words: tuple[str, ...], json: bool) -> None:
    from .models import list_running

    list_running(app, words[0] if words else "", as_json=json)


@_command("cp", "cp SOURCE DESTINATION", "Copy a model", exactly(2))
@click.pass_obj
def cp(app: App, /, words: tuple[str, ...]) -> None:
    from .models import copy_model

    copy_model(app, *words)


@_command("rm", "rm MODEL [MODEL...]", "Remove models", at_least(1))
@click.pass_obj
def rm(app: App, /, words: tuple[str, ...]) -> None:
    from .models import remove_models

    remove_models(app, words)


@_command("help", "help [command]", "Help about any command", _ANY, variables=())
@click.pass_context
def help_(ctx: click.Context, words: tuple[str, ...]) -> None:
    from .help import command_help, root_help, root_usage

    app: App = ctx.obj
    topic = root.get_command(ctx, words[0]) if words else root
    if topic is root:
        app.terminal.out(root_help(root))
    elif isinstance(topic, Command):
        app.terminal.out(command_help(topic))
    else:
        app.terminal.err(f"Unknown help topic [{' '.join(f'`{word}`' for word in words)}]\n{root_usage(root)}")
