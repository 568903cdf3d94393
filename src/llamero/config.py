"""Settings: THE table of every variable, and one frozen value made from a mapping. Nothing else reads the environment.

Source: cli §9 and §10. A variable's row says which part honours it; setting one that nothing honours yet is reported,
so that no option is dead in silence. Byte sizes and `OLLAMA_HOST` are parsed here because this is where they come in.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

from . import durations
from .errors import BadRequest
from .options import parse_bool

Kind = Literal["bool", "uint", "int", "duration", "size", "text", "path", "list", "host", "debug"]
Where = Literal["server", "client", "both", "engine", "vendor"]

SPECULATION: Literal["ngram", "off"] = "ngram"
"""Without a word from the operator. It loses nothing on prose and gains on repeated text (bench/speculation.py)."""


ENGINE_FALSE = frozenset("off disabled false 0".split())
"""The words of the engine's own variables."""


@dataclass(frozen=True, slots=True)
class Variable:
    name: str
    kind: Kind
    default: str
    """As documentation prints it."""
    meaning: str
    where: Where = "server"
    honoured_by: str = ""
    """The module that acts on it; empty: accepted, and a warning says that it has no effect yet."""
    in_help: bool = False
    """Listed by `serve --help`."""


def _v(name: str, kind: Kind, default: str, meaning: str, by: str = "", where: Where = "server") -> Variable:
    return Variable(name, kind, default, meaning, where, by)


def _h(name: str, kind: Kind, default: str, meaning: str, by: str = "", where: Where = "server") -> Variable:
    return Variable(name, kind, default, meaning, where, by, in_help=True)


TABLE: tuple[Variable, ...] = (
    # Ollama's server, in the order of `serve --help` (cli §10.1)
    _h("OLLAMA_DEBUG", "debug", "info", "Show additional debug information (e.g. OLLAMA_DEBUG=1)", "cli"),
    _h("OLLAMA_HOST", "host", "127.0.0.1:11434", "IP Address for the ollama server", "server, client", "both"),
    _h("OLLAMA_CONTEXT_LENGTH", "uint", "0", "Context length to use unless otherwise specified", "scheduler"),
    _h("OLLAMA_KEEP_ALIVE", "duration", "5m", "The duration that models stay loaded in memory", "scheduler"),
    _h("OLLAMA_MAX_LOADED_MODELS", "uint", "0", "Maximum number of loaded models", "scheduler"),
    _h("OLLAMA_MAX_TRANSFER_STREAMS", "uint", "4", "Parallel transfers of models made of many blobs", "registry"),
    _h("OLLAMA_MAX_QUEUE", "uint", "512", "Maximum number of queued requests", "scheduler"),
    _h("OLLAMA_MODELS", "path", "~/.ollama/models", "The path to the models directory", "store"),
    _h("OLLAMA_NUM_PARALLEL", "uint", "0", "Maximum number of parallel requests per model", "scheduler"),
    _h("OLLAMA_NO_CLOUD", "bool", "0", "Disable remote inference and web search (there is none)", "server"),
    _h("OLLAMA_NOPRUNE", "bool", "0", "Do not prune model blobs on startup", "store"),
    _h("OLLAMA_ORIGINS", "list", "", "A comma separated list of allowed origins", "server"),
    _h("OLLAMA_SCHED_SPREAD", "bool", "0", "Always schedule a model across all GPUs", "scheduler"),
    _h("OLLAMA_FLASH_ATTENTION", "text", "auto", "Force flash attention on or off", "scheduler"),
    _h("OLLAMA_KV_CACHE_TYPE", "text", "f16", "Quantization type of the K/V cache", "scheduler"),
    _h("OLLAMA_LLM_LIBRARY", "text", "", "Set LLM library to bypass autodetection", "engines"),
    _h("OLLAMA_GPU_OVERHEAD", "uint", "0", "Reserve a portion of VRAM per GPU (bytes)", "scheduler"),
    _h("OLLAMA_IGPU_ENABLE", "text", "", "Allow integrated GPUs", "engines"),
    _h("LLAMA_ARG_FIT", "text", "on", "Automatic fitting of a model into GPU memory", "engines", "engine"),
    _h("LLAMA_ARG_FIT_TARGET", "text", "", "Memory to leave free per device (MiB)", "engines", "engine"),
    _h("OLLAMA_LOAD_TIMEOUT", "duration", "5m", "How long to allow model loads to stall before giving up", "engines"),
    # Ollama's server, not listed by help
    _v("OLLAMA_DEBUG_LOG_REQUESTS", "bool", "0", "Write inference bodies to a temporary directory"),
    _v("OLLAMA_GO_TEMPLATE", "text", "", "1: always use the TEMPLATE layer, 0: never", "chat"),
    _v("OLLAMA_REMOTES", "list", "ollama.com", "Allowed hosts of remote models", "server"),
    _v("OLLAMA_VULKAN", "bool", "1", "Use Vulkan devices", "engines"),
    _v("OLLAMA_CLOUD_BASE_URL", "text", "", "Developer override of the cloud endpoint"),
    _v("OLLAMA_EXPERIMENT", "list", "", "Comma separated list of experiments"),
    _v("OLLAMA_LLAMA_CPP_COMPAT", "text", "", "Internal loader switch of the reference"),
    _v("OLLAMA_TMPDIR", "path", "", "Documented by the reference, read by nobody"),
    _v("OLLAMA_AUTH", "bool", "0", "Sign the client's requests", "", "client"),
    _v("CUDA_VISIBLE_DEVICES", "text", "", "NVIDIA devices to use", "engines", "vendor"),
    _v("HIP_VISIBLE_DEVICES", "text", "", "AMD devices to use", "engines", "vendor"),
    _v("ROCR_VISIBLE_DEVICES", "text", "", "AMD devices to use", "engines", "vendor"),
    _v("GPU_DEVICE_ORDINAL", "text", "", "AMD devices to use", "engines", "vendor"),
    _v("GGML_VK_VISIBLE_DEVICES", "text", "", "Vulkan devices to use", "engines", "vendor"),
    _v("HSA_OVERRIDE_GFX_VERSION", "text", "", "AMD target override", "engines", "vendor"),
    _v("JETSON_JETPACK", "text", "", "JetPack release in Jetson containers", "", "vendor"),
    _v("CUDA_ERROR_LEVEL", "text", "", "Vendor diagnostics", "engines", "vendor"),
    _v("AMD_LOG_LEVEL", "text", "", "Vendor diagnostics", "engines", "vendor"),
    _v("HTTPS_PROXY", "text", "", "Proxy for https requests", "registry, client", "both"),
    _v("HTTP_PROXY", "text", "", "Proxy for http requests", "registry, client", "both"),
    _v("NO_PROXY", "list", "", "Hosts that are asked directly", "registry, client", "both"),
    _v("SSL_CERT_FILE", "path", "", "Certificates trusted besides the system's", "registry", "vendor"),
    _v("SSL_CERT_DIR", "path", "", "Folder of certificates trusted besides the system's", "registry", "vendor"),
    _v("HF_TOKEN", "text", "", "Token for hf.co, sent to that host only", "registry", "vendor"),
    _v(
        "DOCKER_CONFIG",
        "path",
        "~/.docker",
        "Folder of the config.json with registry credentials",
        "registry",
        "vendor",
    ),
    # clients (cli §10.2)
    _v("OLLAMA_NOHISTORY", "bool", "0", "Do not preserve readline history", "cli", "client"),
    _v("OLLAMA_EDITOR", "text", "", "Path to editor for interactive prompt editing", "", "client"),
    _v("VISUAL", "text", "", "Editor, when OLLAMA_EDITOR is unset", "", "client"),
    _v("EDITOR", "text", "vi", "Editor, when VISUAL is unset", "", "client"),
    _v("OLLAMA_API_KEY", "text", "", "Key sent by clients; for `serve` the key of its share", "client, server", "both"),
    _v("OLLAMA_BASE_URL", "text", "", "Server of the greeting and benchmark tools", "cli", "client"),
    _v("GREETING_TIMEOUT_SECONDS", "uint", "120", "Limit per model of the greeting tool", "cli", "client"),
    _v("OLLAMA_SKILLS", "path", "", "Directory of chat skills", "", "client"),
    _v("XDG_CONFIG_HOME", "path", "", "Base of configuration directories", "", "client"),
    _v("OLLAMA_AGENT_DISABLE_SHELL", "text", "", "Remove the shell tool of the chat menu", "", "client"),
    _v("OLLAMA_AGENT_DISABLE_WEBSEARCH", "text", "", "Remove the web tools of the chat menu", "", "client"),
    _v("HOME", "path", "", "Base of ~/.ollama", "config", "both"),
    _v("NO_COLOR", "text", "", "No colours in the terminal", "cli", "client"),
    _v("TERM", "text", "", "`dumb`: no control sequences", "cli", "client"),
    _v("CI", "text", "", "Set: progress as plain lines", "cli", "client"),
    # Llamero's own (cli §10.3)
    _v("LLAMERO_HOME", "path", "~/.ollama", "Directory for keys, settings, history and logs", "config", "both"),
    _v(
        "LLAMERO_AUTOSTART",
        "text",
        "",
        "Background server: unset `run` only, 0 never, 1 every command",
        "cli",
        "client",
    ),
    _v("LLAMERO_LLAMA_SERVER", "path", "", "llama-server program used instead of the wheel", "engines"),
    _v("LLAMERO_MAX_WAITING", "uint", "", "Waiters on a loaded model (default OLLAMA_MAX_QUEUE)", "scheduler"),
    _v("LLAMERO_SKIP_RAM_CHECK", "bool", "0", "Load although memory is too small", "scheduler"),
    _v("LLAMERO_PRELOAD", "list", "", "Models loaded at the start, and kept", "server"),
    _v("LLAMERO_PREFIX_CACHE", "size", "", "Bytes of prompt cache on disk, 0 off", "store"),
    _v("LLAMERO_NEIGHBOURS", "bool", "1", "Leave cores that other programs keep busy to them", "server"),
    _v("LLAMERO_SPECULATION", "text", SPECULATION, "Guess repeated text ahead: ngram, off", "scheduler"),
    _v("LLAMERO_STOP_TIMEOUT", "duration", "3s", "Time for running requests at shutdown", "server"),
    _v("LLAMERO_REQUEST_TIMEOUT", "duration", "1h", "Longest inference request", "server"),
    _v("LLAMERO_MAX_CONTEXT", "uint", "0", "Upper bound of num_ctx, 0 none", "scheduler"),
    _v("LLAMERO_MAX_BODY", "size", "64MiB", "Largest body of an inference request", "server"),
    _v("LLAMERO_MAX_CONNECTIONS", "uint", "4096", "Open connections at once", "server"),
    _v("LLAMERO_API_KEYS_FILE", "path", "~/.ollama/llamero/keys", "Key file"),
    _v("LLAMERO_ADMIN_LOOPBACK", "bool", "0", "Loopback is admin although keys exist"),
    _v("LLAMERO_ALLOW_IPS", "list", "", "Addresses that may connect"),
    _v("LLAMERO_TRUSTED_PROXIES", "list", "", "Proxies whose word about the client is believed"),
    _v("LLAMERO_ALLOWED_HOSTS", "list", "", "Host names accepted besides the built-in ones", "server"),
    _v("LLAMERO_INSECURE_PUBLIC", "bool", "0", "Serve public peers without a key", "server"),
    _v("LLAMERO_RATE_LIMIT", "text", "", "Requests per key, e.g. 60/m"),
    _v("LLAMERO_MAX_CONCURRENT_PER_KEY", "uint", "0", "Simultaneous requests per key"),
    _v("LLAMERO_TLS_CERT", "path", "", "Certificate"),
    _v("LLAMERO_TLS_KEY", "path", "", "Private key of the certificate"),
    _v("LLAMERO_TLS_CLIENT_CA", "path", "", "Authority of client certificates"),
    _v("LLAMERO_ALLOW_ROOT", "bool", "0", "1 silences the warning about uid 0", "cli"),
    _v("LLAMERO_ALLOW_PRIVATE_REGISTRIES", "list", "", "Private hosts that may be asked", "registry"),
    _v("LLAMERO_MODEL_POLICY", "text", "any", "Which models may be pulled", "registry"),
    _v("LLAMERO_LIMIT_RATE", "size", "", "Bytes per second of all transfers", "registry"),
    _v("LLAMERO_MIRRORS", "list", "", "host=URL|URL pairs asked instead of a registry", "registry"),
    _v("LLAMERO_SHARE", "text", "0", "1: serve /v2/ read-only, through: also fetch what is missing", "server"),
    _v("LLAMERO_PEERS", "list", "", "Servers asked first on pull", "registry"),
    _v("LLAMERO_FETCH_IMAGES", "bool", "0", "Fetch pictures that requests name by URL", "pictures"),
    _v("LLAMERO_EFFORT_FALLBACK", "bool", "0", "Ignore reasoning effort where a model has none", "server"),
    _v("LLAMERO_COMPLETIONS_RAW", "bool", "0", "/v1/completions without a template", "server"),
    _v("LLAMERO_MESSAGES_THINK", "bool", "0", "Thinking on by default on /v1/messages", "server"),
    _v("LLAMERO_RESPONSES", "text", "disk", "Where /v1/responses are kept: disk, memory, off", "responses"),
)

BY_NAME: Mapping[str, Variable] = {variable.name: variable for variable in TABLE}

KV_CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")

_SECRET_WORDS = ("API", "KEY", "TOKEN", "SECRET", "PASS", "CREDENTIAL", "AUTH")


def is_secret(name: str) -> bool:
    """Whether a variable's value must never be printed (security §9.5)."""
    return any(word in name.upper() for word in _SECRET_WORDS)


@dataclass(frozen=True, slots=True)
class HostUrl:
    """Where a server is, as OLLAMA_HOST says it. An empty `host` means every interface."""

    scheme: str
    host: str
    port: int
    path: str = ""
    """Base path without a trailing slash: clients put it before every API path."""
    user_info: str = field(default="", repr=False)
    """`user:password` for Basic auth, still percent-encoded; no text that we print ever holds it."""

    @property
    def netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.path}"

    @property
    def for_clients(self) -> HostUrl:
        """The address to connect to: an unspecified one becomes loopback (cli §9.2)."""
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return replace(self, host=host)

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


DEFAULT_PORT = 11434
_SCHEME_PORTS = {"http": 80, "https": 443}


def parse_host(text: str) -> tuple[HostUrl, list[str]]:
    """Read one OLLAMA_HOST value by the algorithm of cli §9.1. Returns it and the warnings to show."""
    warnings: list[str] = []
    text = _clean(text)
    if text == "ollama.com":
        text = "https://ollama.com:443"
    scheme, default_port = "http", DEFAULT_PORT
    if "://" in text:
        scheme, _, text = text.partition("://")
        scheme = scheme.lower()
        default_port = _SCHEME_PORTS.get(scheme, DEFAULT_PORT)
    text, slash, path = text.partition("/")
    user_info, _, text = text.rpartition("@")
    host, port_text = _split_port(text)
    port = default_port
    if port_text is not None:
        # Go's Atoi: no blanks, no underscores; a sign is a number out of range
        if port_text.isascii() and port_text.isdigit() and int(port_text) <= 65535:
            port = int(port_text)
        else:
            warnings.append(f"invalid port, using default port={port_text} default={default_port}")
    return HostUrl(scheme, host, port, f"/{path}".rstrip("/") if slash else "", user_info), warnings


def _split_port(text: str) -> tuple[str, str | None]:
    """Host and port text; the port is None when the value has none."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if bracket and (not rest or rest.startswith(":")):
            return host, rest[1:] if rest else None
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port
    try:
        return str(ipaddress.ip_address(text.strip("[]"))), None
    except ValueError:
        return text or "127.0.0.1", None


_SIZE_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


def parse_size(text: str) -> int:
    """Bytes of `5MB`, `64 MiB`, `1.5GiB` or a bare number. Raises BadRequest naming the text."""
    lowered = text.strip().lower()
    number = lowered.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = lowered[len(number) :].strip()
    try:
        value = float(number) * _SIZE_UNITS[unit]
    except (ValueError, KeyError):
        raise BadRequest(f"invalid size {text!r}: write for example 512MB or 64MiB") from None
    if not 0 <= value < 2**63:
        raise BadRequest(f"invalid size {text!r}: out of range")
    return int(value)


def parse_keep_alive(text: str) -> int:
    """Nanoseconds of OLLAMA_KEEP_ALIVE: a duration or bare seconds; negative means for ever."""
    try:
        ns = int(text) * durations.SECOND
    except ValueError:
        ns = durations.parse_duration(text)
    return durations.FOREVER if ns < 0 else min(ns, durations.FOREVER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting that something honours, read once and passed in."""

    home: Path
    """`~/.ollama`, or LLAMERO_HOME: key pair, history, logs, `llamero/`."""
    models: Path
    listen: tuple[HostUrl, ...] = (HostUrl("http", "127.0.0.1", DEFAULT_PORT),)
    listen_via: str = "default"
    debug_level: int = 0
    """0 INFO, 1 DEBUG, 2 TRACE, -1 WARN, -2 ERROR."""
    context_length: int = 0
    keep_alive_ns: int = 5 * durations.MINUTE
    load_timeout_s: float | None = 300.0
    """Seconds without any sign of progress; None: no limit."""
    max_loaded_models: int = 0
    max_queue: int = 512
    max_waiting: int = 512
    num_parallel: int = 0
    """0: automatic."""
    max_context: int = 0
    kv_cache_type: str = ""
    flash_attention: bool | None = None
    gpu_overhead_bytes: int = 0
    """Of each GPU, not to be used."""
    gpu_spread: bool = False
    """All GPUs for every model."""
    gpu_library: str = ""
    """The one backend to look for GPUs with, such as `cuda_v13`; `cpu` finds none."""
    gpu_integrated: bool | None = None
    """None: those that are worth it."""
    gpu_vulkan: bool = True
    fit: bool = True
    """Let the engine fit layers into GPU memory."""
    fit_target_mib: tuple[int, ...] = ()
    """What it leaves free of each GPU; empty: as it likes."""
    go_template: bool | None = None
    no_cloud: bool = False
    no_prune: bool = False
    remotes: tuple[str, ...] = ("ollama.com",)
    """Hosts that a stub of a remote model may name."""
    skip_ram_check: bool = False
    minds_neighbours: bool = True
    speculation: Literal["ngram", "off"] = SPECULATION
    """What answers are sped up with where no draft model does it."""
    prefix_cache_bytes: int | None = None
    """None: 4 GiB, or 5 % of the free disk when that is less."""
    origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    insecure_public: bool = False
    max_body_bytes: int = 64 * 2**20
    max_connections: int = 4096
    stop_timeout_s: float = 3.0
    request_timeout_s: float = 3600.0
    llama_server: str = ""
    allow_root: bool = False
    transfer_streams: int = 4
    limit_rate_bytes_per_s: int = 0
    """Of all transfers together; 0: no limit."""
    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Registry host to base URLs, which are asked before it, in order."""
    peers: tuple[str, ...] = ()
    share: Literal["off", "on", "through"] = "off"
    responses: Literal["disk", "memory", "off"] = "disk"
    preload: tuple[str, ...] = ()
    fetch_images: bool = False
    effort_fallback: bool = False
    completions_raw: bool = False
    messages_think: bool = False
    allow_private_registries: tuple[str, ...] = ()
    model_policy: str = "any"
    registry_env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Proxies, certificates and credentials, as the environment names them (`REGISTRY_VARIABLES`, either case)."""
    api_key: str = ""
    autostart: Literal["run", "never", "always"] = "run"
    no_history: bool = False
    plain_terminal: bool = False
    """CI, NO_COLOR or TERM=dumb: no control sequences."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Every variable of TABLE that is set, as it was given: for the start log, through `describe`."""
    engine_env: Mapping[str, str] = field(default_factory=dict)
    """The part of the environment that an engine may inherit."""
    warnings: tuple[str, ...] = ()
    """What was wrong with the environment; whoever starts says it once."""

    @property
    def host(self) -> HostUrl:
        """The server that our clients talk to."""
        return self.listen[0].for_clients

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read every variable of TABLE from a mapping. Never raises: a bad value is a warning and the default."""
        read = _Reader(env)
        home = Path(read.text("LLAMERO_HOME") or Path(read.text("HOME") or Path.home()) / ".ollama").expanduser()
        listen, via = read.hosts()
        max_queue = read.uint("OLLAMA_MAX_QUEUE", 512)
        load_timeout_ns = read.duration("OLLAMA_LOAD_TIMEOUT", 5 * durations.MINUTE)
        request_timeout_ns = read.duration("LLAMERO_REQUEST_TIMEOUT", durations.HOUR)
        return cls(
            home=home,
            models=Path(read.text("OLLAMA_MODELS") or home / "models").expanduser(),
            listen=listen,
            listen_via=via,
            debug_level=read.debug(),
            context_length=read.uint("OLLAMA_CONTEXT_LENGTH", 0),
            keep_alive_ns=read.keep_alive(),
            load_timeout_s=load_timeout_ns / durations.SECOND if load_timeout_ns > 0 else None,
            max_loaded_models=read.uint("OLLAMA_MAX_LOADED_MODELS", 0),
            max_queue=max_queue,
            max_waiting=read.uint("LLAMERO_MAX_WAITING", max_queue),
            num_parallel=read.uint("OLLAMA_NUM_PARALLEL", 0),
            max_context=read.uint("LLAMERO_MAX_CONTEXT", 0),
            kv_cache_type=read.choice("OLLAMA_KV_CACHE_TYPE", KV_CACHE_TYPES),
            flash_attention=read.tristate("OLLAMA_FLASH_ATTENTION"),
            gpu_overhead_bytes=read.uint("OLLAMA_GPU_OVERHEAD", 0),
            gpu_spread=read.flag("OLLAMA_SCHED_SPREAD"),
            gpu_library=read.text("OLLAMA_LLM_LIBRARY"),
            gpu_integrated=read.tristate("OLLAMA_IGPU_ENABLE"),
            gpu_vulkan=read.tristate("OLLAMA_VULKAN") is not False,
            fit=read.text("LLAMA_ARG_FIT").lower() not in ENGINE_FALSE,
            fit_target_mib=read.numbers("LLAMA_ARG_FIT_TARGET"),
            go_template=read.tristate("OLLAMA_GO_TEMPLATE"),
            no_cloud=read.flag("OLLAMA_NO_CLOUD"),
            no_prune=read.flag("OLLAMA_NOPRUNE"),
            remotes=read.words("OLLAMA_REMOTES") or ("ollama.com",),
            skip_ram_check=read.flag("LLAMERO_SKIP_RAM_CHECK"),
            minds_neighbours=read.tristate("LLAMERO_NEIGHBOURS") is not False,
            speculation=read.speculation(),
            prefix_cache_bytes=read.size("LLAMERO_PREFIX_CACHE", None),
            origins=read.words("OLLAMA_ORIGINS"),
            allowed_hosts=read.words("LLAMERO_ALLOWED_HOSTS"),
            preload=read.words("LLAMERO_PRELOAD"),
            insecure_public=read.flag("LLAMERO_INSECURE_PUBLIC"),
            max_body_bytes=read.size("LLAMERO_MAX_BODY", 64 * 2**20),
            max_connections=read.uint("LLAMERO_MAX_CONNECTIONS", 4096),
            stop_timeout_s=max(0, read.duration("LLAMERO_STOP_TIMEOUT", 3 * durations.SECOND)) / durations.SECOND,
            request_timeout_s=max(1.0, request_timeout_ns / durations.SECOND),
            llama_server=read.text("LLAMERO_LLAMA_SERVER"),
            allow_root=read.flag("LLAMERO_ALLOW_ROOT"),
            transfer_streams=max(1, read.uint("OLLAMA_MAX_TRANSFER_STREAMS", 4)),
            limit_rate_bytes_per_s=read.size("LLAMERO_LIMIT_RATE", 0),
            mirrors=read.mirrors(),
            peers=read.urls("LLAMERO_PEERS"),
            share=read.share(),
            responses=read.responses(),
            fetch_images=read.flag("LLAMERO_FETCH_IMAGES"),
            effort_fallback=read.flag("LLAMERO_EFFORT_FALLBACK"),
            completions_raw=read.flag("LLAMERO_COMPLETIONS_RAW"),
            messages_think=read.flag("LLAMERO_MESSAGES_THINK"),
            allow_private_registries=read.words("LLAMERO_ALLOW_PRIVATE_REGISTRIES"),
            model_policy=read.text("LLAMERO_MODEL_POLICY") or "any",
            registry_env=_registry_env(env),
            api_key=read.text("OLLAMA_API_KEY"),
            autostart={None: "run", True: "always", False: "never"}[read.tristate("LLAMERO_AUTOSTART")],  # type: ignore[arg-type]
            no_history=read.flag("OLLAMA_NOHISTORY"),
            plain_terminal=bool(read.text("CI") or read.text("NO_COLOR") or read.text("TERM") == "dumb"),
            environment={name: env[name] for name in BY_NAME if name in env},
            engine_env=_engine_env(env),
            warnings=tuple(read.warnings + _unheard(env)),
        )


_T = TypeVar("_T")


class _Reader:
    """Reads one mapping by the rules of cli §10 and collects what was wrong with it."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = env
        self.warnings: list[str] = []

    def text(self, name: str) -> str:
        return _clean(self.env.get(name, ""))

    def flag(self, name: str) -> bool:
        return self.tristate(name) or False

    def tristate(self, name: str) -> bool | None:
        text = self.text(name)
        if not text:
            return None
        try:
            return parse_bool(text)
        except ValueError:
            # the reference counts any other word as true; so do we, but aloud
            self.warnings.append(f"{name}={text} is not a boolean and counts as true; use 1 or 0")
            return True

    def uint(self, name: str, default: int) -> int:
        text = self.text(name)
        if not text:
            return default
        if text.isascii() and text.isdigit() and int(text) < 2**63:
            return int(text)
        return self._bad(name, text, default)

    def duration(self, name: str, default_ns: int) -> int:
        text = self.text(name)
        if not text:
            return default_ns
        try:
            return int(text) * durations.SECOND
        except ValueError:
            pass
        try:
            return durations.parse_duration(text)
        except BadRequest:
            return self._bad(name, text, default_ns)

    def keep_alive(self) -> int:
        ns = self.duration("OLLAMA_KEEP_ALIVE", 5 * durations.MINUTE)
        return durations.FOREVER if ns < 0 else min(ns, durations.FOREVER)

    def size(self, name: str, default: _T) -> int | _T:
        text = self.text(name)
        if not text:
            return default
        try:
            return parse_size(text)
        except BadRequest:
            return self._bad(name, text, default)

    def choice(self, name: str, choices: tuple[str, ...], default: str = "") -> str:
        """One of some words in lower case; anything else is a warning and the default."""
        text = self.text(name).lower()
        if not text:
            return default
        return text if text in choices else self._bad(name, text, default)

    def numbers(self, name: str) -> tuple[int, ...]:
        """Whole numbers with commas or slashes between them, as the engine reads them; none of them if one is bad."""
        words = self.text(name).replace("/", ",").split(",")
        if words == [""] or all(word.strip().isdecimal() for word in words):
            return tuple(int(word) for word in words if word)
        return self._bad(name, self.text(name), ())

    def words(self, name: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in self.text(name).split(",") if part.strip())

    def urls(self, name: str) -> tuple[str, ...]:
        """Base URLs without a trailing slash; one that is none is a warning and left out."""
        return tuple(url for word in self.words(name) if (url := self._base_url(name, word)))

    def mirrors(self) -> dict[str, tuple[str, ...]]:
        """`host=URL|URL,host=URL` of LLAMERO_MIRRORS (store-registry GAP-08)."""
        name, found = "LLAMERO_MIRRORS", dict[str, tuple[str, ...]]()
        for word in self.words(name):
            host, _, urls = word.partition("=")
            bases = tuple(base for url in urls.split("|") if (base := self._base_url(name, url.strip())))
            if host.strip() and bases:
                found[host.strip().lower()] = bases
        return found

    def _base_url(self, name: str, text: str) -> str:
        if is_base_url(text):
            return text.rstrip("/")
        return self._bad(name, _USER_INFO.sub("//", text).rpartition("@")[2], "")  # a login may stand without a scheme

    def share(self) -> Literal["off", "on", "through"]:
        if self.text("LLAMERO_SHARE").lower() == "through":
            return "through"
        return "on" if self.flag("LLAMERO_SHARE") else "off"

    def responses(self) -> Literal["disk", "memory", "off"]:
        match self.choice("LLAMERO_RESPONSES", ("disk", "memory", "off"), "disk"):
            case "memory" | "off" as where:
                return where
        return "disk"

    def speculation(self) -> Literal["ngram", "off"]:
        match self.choice("LLAMERO_SPECULATION", ("ngram", "off"), SPECULATION):
            case "ngram":
                return "ngram"
        return "off"

    def debug(self) -> int:
        text = self.text("OLLAMA_DEBUG")
        try:
            return int(text) if text else 0
        except ValueError:
            return 1 if self.flag("OLLAMA_DEBUG") else 0

    def hosts(self) -> tuple[tuple[HostUrl, ...], str]:
        text = self.text("OLLAMA_HOST")
        parts = [part for part in text.split(",") if part.strip()] or [""]
        hosts = []
        for part in parts:
            host, warnings = parse_host(part)
            hosts.append(host)
            self.warnings += warnings
        return tuple(hosts), "OLLAMA_HOST" if text else "default"

    def _bad(self, name: str, text: str, default: _T) -> _T:
        shown = "[set]" if is_secret(name) else text
        self.warnings.append(f"invalid environment variable, using default key={name} value={shown} default={default}")
        return default


def _unheard(env: Mapping[str, str]) -> list[str]:
    """Names of ours that nothing honours, and names that look like ours and are not."""
    warnings = []
    for name in sorted(env):
        if not name.startswith(("OLLAMA_", "LLAMERO_", "LLAMA_ARG_")) or not _clean(env[name]):
            continue
        variable = BY_NAME.get(name)
        if variable is None:
            warnings.append(f"{name} is not a variable of this program and has no effect")
        elif not variable.honoured_by:
            warnings.append(f"{name} is known but has no effect in this version")
    return warnings


ENGINE_PREFIXES = (
    "CUDA_",
    "HIP_",
    "ROCR_",
    "HSA_",
    "AMD_",
    "GGML_",
    "LLAMA_ARG_",
    "GPU_",
    "NVIDIA_",
    "LC_",
    "VK_",
    "OMP_",
)
ENGINE_NAMES = (
    "PATH",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "LANG",
    "TZ",
    "SYSTEMROOT",
    "GOMP_SPINCOUNT",
    "GOMP_CPU_AFFINITY",
)


def _engine_env(env: Mapping[str, str]) -> dict[str, str]:
    """An allow-list: an engine never sees a key, a token or a proxy (security §9.3)."""
    return {
        name: value
        for name, value in env.items()
        if (name in ENGINE_NAMES or name.startswith(ENGINE_PREFIXES)) and not is_secret(name)
    }


REGISTRY_VARIABLES = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HF_TOKEN",
    "DOCKER_CONFIG",
)


def _registry_env(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.upper() in REGISTRY_VARIABLES and value.strip()}


def describe(environment: Mapping[str, str]) -> str:
    """`map[NAME:value ...]` of every server variable, sorted; secrets and the credentials in proxies are left out."""
    shown = []
    for variable in sorted(TABLE, key=lambda each: each.name):
        if variable.where in ("server", "both", "engine", "vendor"):
            value = environment.get(variable.name, variable.default)
            if value and is_secret(variable.name):
                value = "[set]"
            shown.append(f"{variable.name}:{_USER_INFO.sub('//[redacted]@', value)}")
    return f"map[{' '.join(shown)}]"


_BASE_URL = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")


def is_base_url(text: str) -> bool:
    """Whether it is what other paths can be put behind: no query, no fragment."""
    return _BASE_URL.fullmatch(text) is not None


_USER_INFO = re.compile(r"//[^/@]*@")


def system_environment() -> Mapping[str, str]:
    """The process's own environment; only entry points call this."""
    return dict(os.environ)


def _clean(text: str) -> str:
    return text.strip("\"' \t\r\n")
