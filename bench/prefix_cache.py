"""The second question of a long chat, after its model was unloaded and after its server was restarted.

    python -m bench.prefix_cache [rounds]

Ratios of times to the first token, each by the client's clock on a model that is loaded already: the follow-up, whose
conversation the prompt cache brings back from disk, against the first question, which was read in full. Every round has
a conversation of its own. The row with the load tells what somebody waits who comes back to an unloaded model.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.running import Server, linked_copy, running

from .alone import alone
from .effort import Effort
from .figures import Figure, ratios
from .servers import MODEL, models_folder, side_of
from .sides import Message, user

ROUNDS = 5
SENTENCES = 110
"""About 1,500 tokens."""
ANSWER_TOKENS = 24


def measure(effort: Effort) -> list[Figure]:
    first_s, unloaded_s, restarted_s, cold_s = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        models = linked_copy(models_folder(), Path(folder) / "models")
        for number in range(effort.rounds_of(ROUNDS)):
            question = user(_street(number, effort.size(SENTENCES, 30)))
            with running(Path(folder), models) as server:
                _load(server)
                first = side_of(server).chat(question, ANSWER_TOKENS)
                first_s.append(first.first_s)
                talk = [*question, {"role": "assistant", "content": first.text}]
                _unload(server)
                _load(server)
                unloaded_s.append(_follow_up_s(server, talk, "Who lives in house 7?"))
                _unload(server)
                cold_s.append(_follow_up_s(server, talk, "Who lives in house 8?"))
            with running(Path(folder), models) as server:
                _load(server)
                restarted_s.append(_follow_up_s(server, talk, "Who lives in house 9?"))
    return [
        Figure("follow-up after unload / first prefill", ratios(unloaded_s, first_s), goal=0.05, better="less"),
        Figure("follow-up after a restart / first prefill", ratios(restarted_s, first_s), goal=0.05, better="less"),
        Figure("the same with the load, after unload", ratios(cold_s, first_s), better="less"),
    ]


def _street(number: int, sentences: int) -> str:
    """A text that begins like no other."""
    houses = " ".join(f"In house {house} lives person {house * 7 + number}." for house in range(1, sentences + 1))
    return f"Street {number}. {houses} Who lives in house 5?"


def _follow_up_s(server: Server, talk: Sequence[Message], question: str) -> float:
    return side_of(server).chat([*talk, *user(question)], ANSWER_TOKENS).first_s


def _load(server: Server) -> None:
    server.post("/api/generate", {"model": MODEL, "stream": False})


def _unload(server: Server) -> None:
    """And wait for the end of the engine, which saves first."""
    server.unload_all()
    server.wait_until(lambda: not server.engines())


if __name__ == "__main__":
    alone(measure, __doc__)
