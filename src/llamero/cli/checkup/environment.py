"""The environment of this shell: variables that mean nothing, that contradict each other, and proxies in the way.

A server that was started elsewhere has another one. Values are told only of variables that can hold no secret.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ...client import Proxies, matches
from ...config import BY_NAME, ConfigFile, HostUrl, Settings, parse_host
from ...messages import Found
from . import Surroundings, fail, ok, warn

PREFIXES = ("OLLAMA_", "LLAMERO_", "LLAMA_ARG_")
ALIKE = 0.85
"""How like a known name another one must be to be taken for a slip of the fingers; 1 is equal."""

_NAME = re.compile(r"[A-Z]+(?:_[A-Z0-9]+)+")
"""Of a variable, in a warning."""

LOOPBACK = ("localhost", "127.0.0.1")
"""What programs call this machine."""


def variables(here: Surroundings) -> Iterator[Found]:
    found = [*_warnings(here.settings), *_misspelt(here.env), *contradictions(here.settings, here.env)]
    ours = [name for name in here.env if name.startswith(PREFIXES)]
    yield from found or [ok("environment", f"{len(ours)} variables of ours are set, and all of them are understood")]


def _warnings(settings: Settings) -> Iterator[Found]:
    for text in settings.warnings:
        name = match[0] if (match := _NAME.search(text)) else ""
        known = "ollama serve --help lists what there is"
        yield warn("environment", text, known if name in BY_NAME or not name else _meant(name))


def _misspelt(env: Mapping[str, str]) -> Iterator[Found]:
    """Names that the settings do not even recognise as ours."""
    ours = [name for name in BY_NAME if name.startswith(PREFIXES)]
    for name in sorted(env):
        if name in BY_NAME or name.startswith(PREFIXES):
            continue
        if alike := difflib.get_close_matches(name.upper(), ours, 1, ALIKE):
            yield warn("environment", f"{name} has no effect", f"{alike[0]} was meant?")


def _meant(name: str) -> str:
    alike = difflib.get_close_matches(name, BY_NAME, 1, ALIKE)
    return f"{alike[0]} was meant?" if alike else "unset it"


def config_file(file: ConfigFile) -> Iterator[Found]:
    """What is wrong with config.toml; nothing is said of one that is right, or is not there."""
    if file.problem:
        yield fail("config.toml", file.problem, "mend it: no server starts with it")
    for text in file.warnings:
        yield warn("config.toml", text, "ollama config lists what there is")


def contradictions(settings: Settings, env: Mapping[str, str]) -> Iterator[Found]:
    """Settings that are right one by one, and not together."""
    cache = settings.kv_cache_type
    if settings.flash_attention is False and cache not in ("", "f16", "f32", "bf16"):
        text = f"OLLAMA_KV_CACHE_TYPE={cache} needs flash attention, which OLLAMA_FLASH_ATTENTION switches off"
        yield warn("environment", text, "unset one of the two: no model loads like this")
    if 0 < settings.max_context < settings.context_length:
        text = "OLLAMA_CONTEXT_LENGTH is above LLAMERO_MAX_CONTEXT, which wins"
        yield warn("environment", text, "set them alike")
    if 0 < settings.max_loaded_models < len(settings.preload):
        text = f"LLAMERO_PRELOAD names {len(settings.preload)} models, OLLAMA_MAX_LOADED_MODELS allows fewer"
        yield warn("environment", text, "the first of them are let go for the last ones: allow more")
    hiding = [
        name
        for name in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
        if env.get(name) == "-1"
    ]
    for name in hiding:
        yield warn("environment", f"{name}=-1 hides every GPU", "unset it to use them")
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "LLAMERO_CLIENT_CERT", "LLAMERO_CLIENT_KEY"):
        if (place := env.get(name, "").strip()) and not Path(place).expanduser().exists():
            yield warn("environment", f"{name} names a place that does not exist", "unset it, or mend it")


def proxies(here: Surroundings) -> Iterator[Found]:
    """Our own commands never ask a proxy for this machine; programs with other rules do."""
    wanted = Proxies.from_env(here.env)
    every = (here.env.get("ALL_PROXY") or here.env.get("all_proxy") or "").strip()
    host, through = here.client.host, wanted.for_host(here.client.host)
    if through:
        text = f"requests to {host.url} go through the proxy {parse_host(through)[0].netloc}"
        yield warn("proxy", text, f"add {host.host} to NO_PROXY if it can be reached without")
    if not (wanted.http or wanted.https or every):
        yield ok("proxy", "none")
        return
    caught = [name for name in LOOPBACK if not any(matches(entry, _local(name, host)) for entry in wanted.bypass)]
    if caught and (wanted.http or every):
        text = f"the proxy catches {' and '.join(caught)}: other programs will not find this server"
        yield warn("proxy", text, f"add {','.join(caught)} to NO_PROXY")
    elif not through:
        yield ok("proxy", "set, and not in the way of this machine")


def _local(name: str, host: HostUrl) -> HostUrl:
    return HostUrl("http", name, host.port)
