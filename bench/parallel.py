"""What several slots bring: eight clients against one, and what they cost somebody who is alone.

    python -m bench.parallel [rounds]

Default settings against OLLAMA_NUM_PARALLEL=1, each server in its turn, so that only one engine works at a time. The
first ratio is tokens per second of eight clients together / of one client, the others decode of a lone client with
automatic slots / with a single one: before anybody else came, and some seconds behind the eight, when what they left in
the cache that all slots share has been cleared away.

Two engines with the same settings are up to a twentieth apart for as long as they live, so each pair of servers is
asked a few times only, and then comes another.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from llamero.scheduler.loop import SAVE_IDLE_S

from .alone import alone
from .effort import Effort
from .figures import Figure, ratios
from .servers import our_server, side_of
from .sides import Side, user
from .turns import in_turn

PAIRS = 4
ROUNDS = 3
"""With each pair."""
CLIENTS = 8
TOKENS = 128
LEFT_ALONE_S = SAVE_IDLE_S + 1.0


def speed(side: Side, clients: int, tokens: int, round_: int) -> float:
    """Tokens per second of all clients together, from the first request to the end of the last answer."""
    questions = [
        user(f"Tell a long story about {round_} seas and {client} ships, {clients} of them.")
        for client in range(clients)
    ]
    with ThreadPoolExecutor(clients) as threads:
        started = time.perf_counter()
        answers = list(threads.map(lambda question: side.chat(question, tokens), questions))
        took_s = time.perf_counter() - started
    return sum(answer.tokens for answer in answers) / took_s


def lone(side: Side, round_: int, tokens: int) -> float:
    """Decode in tokens per second of somebody who begins another conversation each time."""
    return side.chat(user(f"Tell a long story about {round_} hills."), tokens).decode_per_s


@dataclass
class Speeds:
    """Tokens per second, a value for each round."""

    several: list[float] = field(default_factory=list)
    """A lone client of the server that makes slots itself, and beside it of the one that has a single slot."""
    one: list[float] = field(default_factory=list)
    several_later: list[float] = field(default_factory=list)
    one_later: list[float] = field(default_factory=list)
    together: list[float] = field(default_factory=list)
    by_itself: list[float] = field(default_factory=list)


def measure(effort: Effort) -> list[Figure]:
    rounds, tokens = effort.rounds_of(ROUNDS), effort.size(TOKENS, 8)
    speeds = Speeds()
    for _ in range(effort.size(PAIRS, 1)):
        with our_server() as automatic, our_server(OLLAMA_NUM_PARALLEL="1") as single:
            _ask(speeds, (side_of(automatic), side_of(single)), rounds, tokens)
    later = ratios(speeds.several_later, speeds.one_later)
    return [
        Figure("eight clients / one, tokens per second", ratios(speeds.together, speeds.by_itself), goal=1.6),
        Figure("eight clients, all together", tuple(speeds.together), "tokens/s"),
        Figure("one client", tuple(speeds.by_itself), "tokens/s"),
        Figure("a lone client, automatic slots / one slot", ratios(speeds.several, speeds.one), goal=0.98),
        Figure("the same behind eight others", later, goal=0.98),
    ]


def _ask(speeds: Speeds, sides: tuple[Side, Side], rounds: int, tokens: int) -> None:
    """What one pair of servers gives."""
    in_turn(sides, 1, lambda side, i: side.chat(user("warm up"), 8).total_s)
    several, one = in_turn(sides, rounds, lambda side, i: lone(side, i, tokens))
    by_itself, together = in_turn((1, CLIENTS), rounds, lambda clients, i: speed(sides[0], clients, tokens, i))
    time.sleep(LEFT_ALONE_S)
    several_later, one_later = in_turn(sides, rounds, lambda side, i: lone(side, rounds + i, tokens))
    speeds.several += several
    speeds.one += one
    speeds.by_itself += by_itself
    speeds.together += together
    speeds.several_later += several_later
    speeds.one_later += one_later


if __name__ == "__main__":
    alone(measure, __doc__)
