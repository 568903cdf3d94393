"""Completion of `ollama` in shells: a script for each, and the words that it asks for (cli G-05).

The scripts know nothing themselves: they ask `ollama __complete`, which prints one word per line and never fails.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from ..config import BY_KEY
from ..errors import BadRequest
from .agents import AGENTS
from .app import App
from .grammar import Command, Flag, Root, flags_of

TAKE_MODELS = frozenset("show run stop pull push cp rm mv update export bench fit hi".split())
ONE_MODEL = frozenset("show run cp mv export fit".split())
"""After their first word comes something else: a prompt, a new name, a file."""
RUNNING_ONLY = frozenset(["stop"])
TAKE_A_MODEL = frozenset(["--model"])
"""Flags."""
SUBCOMMANDS = {
    "cache": ("clear",),
    "config": ("example", "get", "path", "set", "unset"),
    "engine": ("build", "remove", "use"),
    "key": ("list", "new", "revoke"),
    "service": ("install", "logs", "restart", "start", "status", "stop", "uninstall"),
}

_BASH = """\
# bash completion for ollama: source <(ollama completion bash)
_ollama_complete() {
    local word=${COMP_WORDS[COMP_CWORD]} line=${COMP_LINE:0:COMP_POINT} typed IFS=$'\\n'
    # bash takes a colon for the end of a word, and the names of models have colons
    typed=${line##*[[:space:]]}
    local before=${line%"$typed"}
    local -a words
    IFS=$' \\t' read -ra words <<<"${before#*[[:space:]]}"
    COMPREPLY=($(ollama __complete -- "${words[@]}" "$typed" 2>/dev/null))
    if [[ $typed == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${typed%:*}:"}")
    fi
}
complete -o default -F _ollama_complete ollama llamero
"""
_ZSH = """\
#compdef ollama llamero
# zsh completion for ollama: source <(ollama completion zsh)
_ollama_complete() {
    local -a found
    found=(${(f)"$(ollama __complete -- ${words[2,CURRENT-1]} "${words[CURRENT]}" 2>/dev/null)"})
    if (( ${#found} )); then compadd -a found; else _files; fi
}
compdef _ollama_complete ollama llamero
"""
_FISH = """\
# fish completion for ollama: ollama completion fish | source
function __ollama_complete
    set -l before (commandline -opc)
    set -l found (ollama __complete -- $before[2..-1] (commandline -ct) 2>/dev/null)
    # files only where nothing is known, or they would be offered beside the names of models
    if set -q found[1]
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c ollama -f -a '(__ollama_complete)'
complete -c llamero -f -a '(__ollama_complete)'
"""
_POWERSHELL = """\
# PowerShell completion for ollama: ollama completion powershell | Out-String | Invoke-Expression
Register-ArgumentCompleter -Native -CommandName ollama, llamero -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $all = $commandAst.CommandElements | Select-Object -Skip 1
    $before = @($all | Where-Object { $_.Extent.EndOffset -lt $cursorPosition })
    ollama __complete '--' @($before | ForEach-Object { $_.ToString() }) "$wordToComplete" 2>$null | ForEach-Object {
        [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_)
    }
}
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH, "powershell": _POWERSHELL}


def script(shell: str) -> str:
    """Raises BadRequest for a shell that is not known."""
    if shell not in SCRIPTS:
        raise BadRequest(f'no completion for "{shell}"; there is one for {", ".join(SCRIPTS)}')
    return SCRIPTS[shell]


def candidates(app: App, root: Root, words: Sequence[str]) -> list[str]:
    """What may stand in the place of the last word, after the others."""
    *before, typed = words
    return sorted({word for word in _all(app, root, before, typed) if word.startswith(typed)})


def _all(app: App, root: Root, before: Sequence[str], typed: str) -> Iterator[str]:
    command = next((found for word in before if (found := _command(root, word))), None)
    if command is None:
        yield from _of_root(root, typed)
    elif "--" in before:
        return  # those words are another program's
    elif typed.startswith("-"):
        yield from _flags(command)
    elif before[-1] in TAKE_A_MODEL:
        yield from _models(app)
    elif not _takes_value(command, before[-1]):  # of which nobody knows what it could be
        yield from _of_command(app, root, command, _positional(command, before))


def _of_root(root: Root, typed: str) -> Iterator[str]:
    yield from _flags(root) if typed.startswith("-") else (each.name or "" for each in root.visible())


def _of_command(app: App, root: Root, command: Command, given: Sequence[str]) -> Iterator[str]:
    """What may come after the positional words of a command that are there."""
    name = command.name or ""
    if name == "help":
        yield from (each.name or "" for each in root.visible())
    elif name == "completion":
        yield from SCRIPTS
    elif name == "launch" and not given:
        yield from (agent.name for agent in AGENTS)
    elif name in SUBCOMMANDS and not given:
        yield from SUBCOMMANDS[name]
    elif name == "engine" and given == ["use"]:
        yield from ("native", "wheel")
    elif name == "config" and len(given) == 1 and given[0] in ("get", "set", "unset"):
        yield from BY_KEY
    elif (name in TAKE_MODELS and not (name in ONE_MODEL and given)) or (name == "cache" and given == ["clear"]):
        yield from _models(app, only_running=name in RUNNING_ONLY)


def _flags(command: click.Command) -> Iterator[str]:
    return (flag.long for flag in flags_of(command).values() if not flag.hidden)


def _command(root: Root, word: str) -> Command | None:
    found = root.get_command(click.Context(root), word)
    return found if isinstance(found, Command) else None


def _takes_value(command: Command, word: str) -> bool:
    """Whether the word is a flag whose value is the next one."""
    flag: Flag | None = flags_of(command).get(word)
    return flag is not None and flag.bare is None


def _positional(command: Command, before: Sequence[str]) -> list[str]:
    """The words after the command that are neither flags nor values of flags."""
    own = before[before.index(next(word for word in before if word in (command.name, *command.aliases))) + 1 :]
    values = {index + 1 for index, word in enumerate(own) if _takes_value(command, word)}
    return [word for index, word in enumerate(own) if not word.startswith("-") and index not in values]


def _models(app: App, *, only_running: bool = False) -> Iterator[str]:
    """Each by its name, and by what is typed for it: the tag `latest` may be left out."""
    for name in app.model_names(only_running=only_running):
        yield name
        yield name.removesuffix(":latest")
