"""CPU time that our server spends on a streamed token, with one stream and with 32 at once.

    python -m bench.streams [rounds]

The kernel says what the server's process took; engine and clients are other processes. A round asks for short answers
and for long ones: what the long ones took more, per token that they had more, is the cost of a token, without that of
a request. The streams really run at once, with a slot for each, or there is no figure. They pass through a process that
does nothing but copy their bytes: what that takes is the least that they could cost anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.running import Server

from .alone import alone
from .clients import many_clients, most_at_once
from .effort import Effort
from .figures import Figure, failed
from .processes import cpu_s
from .relay import Relay, relayed
from .servers import MODEL, our_server
from .wire import Failed

ROUNDS = 5
MANY = 32
SHORT_TOKENS, LONG_TOKENS = 16, 144
WINDOW_TOKENS = 512
"""Of each slot: 32 of them shall fit any machine."""
GOAL_US = 50.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What streaming some tokens took."""

    tokens: int
    at_once: int
    """Streams that there were at the same time."""
    server_s: float
    engine_s: float
    relay_s: float = 0.0

    @property
    def server_us(self) -> float:
        """Per token."""
        return 1e6 * self.server_s / self.tokens

    @property
    def engine_us(self) -> float:
        return 1e6 * self.engine_s / self.tokens

    @property
    def relay_us(self) -> float:
        return 1e6 * self.relay_s / self.tokens

    def beyond(self, less: Spent) -> Spent:
        """What the tokens took that these are more than those of another run. Raises Failed when they are not."""
        if self.tokens <= less.tokens:
            raise Failed(f"long answers of {self.tokens} tokens, short ones of {less.tokens}: nothing to compare")
        return Spent(
            tokens=self.tokens - less.tokens,
            at_once=self.at_once,
            server_s=self.server_s - less.server_s,
            engine_s=self.engine_s - less.engine_s,
            relay_s=self.relay_s - less.relay_s,
        )


def measure(effort: Effort) -> list[Figure]:
    return [*_with_streams(effort, 1), *_with_streams(effort, effort.size(MANY, 4))]


def _with_streams(effort: Effort, streams: int) -> list[Figure]:
    name = f"CPU time per streamed token, {streams} {'stream' if streams == 1 else 'streams'}"
    settings = {"OLLAMA_NUM_PARALLEL": str(streams), "OLLAMA_CONTEXT_LENGTH": str(WINDOW_TOKENS)}
    long = effort.size(LONG_TOKENS, 2 * SHORT_TOKENS)
    runs = []
    try:
        with our_server(**settings) as server, relayed(server.port) as relay:
            spend(server, relay, streams, SHORT_TOKENS, 0)
            for i in range(effort.rounds_of(ROUNDS)):
                less = spend(server, relay, streams, SHORT_TOKENS, 2 * i + 1)
                more = spend(server, relay, streams, long, 2 * i + 2)
                if more.at_once < streams:
                    raise Failed(f"only {more.at_once} of {streams} streams ran at once")
                runs.append((less, more, more.beyond(less)))
    except Failed as error:
        return [failed(name, str(error))]
    return [
        Figure(name, tuple(beyond.server_us for _, _, beyond in runs), "µs", goal=GOAL_US, better="less"),
        Figure(
            f"{name}, with what the request cost ({long} tokens)",
            tuple(more.server_us for _, more, _ in runs),
            "µs",
            better="less",
        ),
        Figure(f"{name}, to copy its bytes", tuple(beyond.relay_us for _, _, beyond in runs), "µs", better="less"),
        Figure(f"{name}, of the engine", tuple(beyond.engine_us for _, _, beyond in runs), "µs", better="less"),
    ]


def spend(server: Server, relay: Relay, streams: int, tokens: int, seed: int) -> Spent:
    """Stream so many answers. Raises Failed when one of them fails."""
    engines = server.engines()

    def taken() -> tuple[float, float, float]:
        return cpu_s(server.process.pid), sum(map(cpu_s, engines)), cpu_s(relay.pid)

    before_s = taken()
    seen = many_clients(relay.url, MODEL, streams, tokens, seed)
    after_s = taken()
    return Spent(
        tokens=sum(stream.tokens for stream in seen),
        at_once=most_at_once(seen),
        server_s=after_s[0] - before_s[0],
        engine_s=after_s[1] - before_s[1],
        relay_s=after_s[2] - before_s[2],
    )


if __name__ == "__main__":
    alone(measure, __doc__)
