"""What the REPL's help says, and what its Tab key completes: the same words (cli §6.3). They are obeyed in `slash`."""

from __future__ import annotations

import re
from collections.abc import Mapping

HELP = """\
Available Commands:
  /set                 Change a setting of this session
  /show                Show what is known of the model
  /load <model>        Begin anew with another model
  /save <model>        Save this session as a model
  /clear               Forget the conversation
  /sessions            List the conversations that are kept
  /resume [number]     Go on with one of them, or with the last
  /export <file>       Write this conversation to a file (.md or .json)
  /usage               Show how much of the context is used
  /list [prefix]       List the models
  /bye                 Leave
  /?, /help            Help for a command
  /? shortcuts         Help for the keyboard

Use \""" to begin a message of several lines.
"""
FILES_HELP = """\
Write the path of a .jpg, .png, .webp, .gif, .bmp or .wav file to show it to the model: /path, ./path, ~/path or @path.
"""
SET_HELP = """\
Available Commands:
  /set parameter ...     Set a parameter
  /set system <string>   Set the system message
  /set history           Save what is typed, and keep the conversation
  /set nohistory         Save and keep nothing
  /set wordwrap          Break lines between words
  /set nowordwrap        Leave lines as they come
  /set markdown          Show headings, lists, tables and code as such
  /set nomarkdown        Show answers as they are written
  /set format json       Answer in JSON
  /set noformat          Answer freely
  /set verbose           Show statistics after each answer
  /set quiet             Show no statistics
  /set think [level]     Let the model think first
  /set nothink           Let the model answer at once
  /set fold              Fold what the model thinks into one line
  /set nofold            Show what the model thinks
  /set vi                Edit lines as vi does
  /set novi              Edit lines as usual
  /set shell             Let lines that begin with ! run in the shell
  /set noshell           Send them to the model
"""
SHOW_HELP = """\
Available Commands:
  /show info         Show an overview of the model
  /show license      Show the licence
  /show modelfile    Show the Modelfile, with what was set here
  /show parameters   Show the parameters, and those set here
  /show system       Show the system message
  /show template     Show the prompt template
  /show thinking     Show what the model thought before its last answer
"""
SHORTCUTS_HELP = """\
Available keyboard shortcuts:
  Ctrl + a            Go to the start of the line (Home)
  Ctrl + e            Go to the end of the line (End)
  Alt + b             Go one word back (Ctrl + left)
  Alt + f             Go one word on (Ctrl + right)
  Ctrl + k            Delete up to the end of the line
  Ctrl + u            Delete up to the start of the line
  Ctrl + w            Delete the word before the cursor
  Ctrl + y            Put back what was deleted
  Ctrl + p, up        The message before, in the history
  Ctrl + n, down      The message after
  Ctrl + r            Search the history
  Tab                 Complete a command, a model or a path
  Ctrl + j            Begin a new line (Shift or Alt + Enter where the terminal tells)
  Ctrl + g            Write the message in an editor

  Ctrl + t            Show what the model thought; while it thinks, fold or open it
  Ctrl + l            Clear the screen
  Ctrl + c            Stop the answer, or drop the line
  Ctrl + z            Suspend
  Ctrl + d            Leave (/bye)
"""
PARAMETER_HELP = """\
Available Parameters:
  /set parameter seed <int>             Random number seed
  /set parameter num_predict <int>      Most tokens to generate
  /set parameter top_k <int>            Pick from the k likeliest tokens
  /set parameter top_p <float>          Pick from the likeliest tokens up to this probability
  /set parameter min_p <float>          Drop tokens below this share of the likeliest one
  /set parameter num_ctx <int>          Context window in tokens
  /set parameter temperature <float>    Spread of the choice, 0 for none
  /set parameter repeat_penalty <float> Penalty on repeated tokens
  /set parameter repeat_last_n <int>    How far back repetition counts
  /set parameter num_gpu <int>          Layers on the GPU
  /set parameter stop <string> ...      Texts that end the answer
"""

_ENTRY = re.compile(r"  (/\S+(?: [a-z_]+)*)(?:, (/\S+))?(?: (?:<\w+>|\[\w+\]|\.\.\.))* +(\S.*)")


def commands() -> Mapping[str, str]:
    """Every command that the help names, without its arguments, and what it does."""
    found: dict[str, str] = {}
    for text in (HELP, SET_HELP, SHOW_HELP, PARAMETER_HELP):
        for line in text.splitlines():
            if entry := _ENTRY.fullmatch(line):
                found |= {name.rstrip(","): entry[3] for name in entry.groups()[:2] if name}
    return found
