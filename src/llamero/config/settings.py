"""Every setting that something honours, as one frozen value made from a mapping. Nothing else reads the environment.

Source: cli §9 and §10.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .. import durations
from .file import NO_FILE, ConfigFile
from .hosts import DEFAULT_PORT, HostUrl
from .read import Reader, unheard
from .secrets import is_secret, shown
from .table import BY_NAME, SPECULATION, TABLE
from .words import clean

ENGINE_FALSE = frozenset("off disabled false 0".split())
"""The words of the engine's own variables."""


KV_CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting that something honours, read once and passed in."""

    home: Path
    """`~/.ollama`, or LLAMERO_HOME: key pair, history, logs, `llamero/`."""
    models: Path
    listen: tuple[HostUrl, ...] = (HostUrl("http", "127.0.0.1", DEFAULT_PORT),)
    listen_via: str = "default"
    activation: Mapping[str, str] = field(default_factory=dict)
    """What a service manager says of sockets that it has opened for us (`ACTIVATION_VARIABLES`)."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    """With the other two: only clients whose certificate it has signed are let in."""
    debug_level: int = 0
    """0 INFO, 1 DEBUG, 2 TRACE, -1 WARN, -2 ERROR."""
    logs_json: bool = False
    keeps_requests: bool = False
    """Write the bodies of inference requests to a temporary folder."""
    traces_url: str = ""
    """Where OpenTelemetry's spans are sent; empty: nowhere."""
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
    allow_ips: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    keys_file: Path | None = None
    """LLAMERO_API_KEYS_FILE; None: `llamero/keys` in the home, where there is one."""
    admin_loopback: bool = False
    rate_limit: str = ""
    """Requests of one key, or of one address while there are no keys, as `60/m`; empty: no limit."""
    max_concurrent_per_key: int = 0
    """0: no limit."""
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
    api_key: str = field(default="", repr=False)
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
        """The server that our clients talk to: of several addresses the first that anybody can connect to."""
        usable = (host for host in self.listen if host.is_unix or host.port)
        return next(usable, self.listen[0]).for_clients

    @classmethod
    def from_env(cls, env: Mapping[str, str], file: ConfigFile = NO_FILE) -> Settings:
        """Read every variable of TABLE from an environment, which wins, and a file.

        Never raises: a bad value is a warning and the default, and so is a file that cannot be used.
        """
        from_file = {name for name in file.texts if file.origin(name, env) == "config.toml"}
        criticism = [*([f"{file.problem}; the file is not used"] if file.problem else []), *file.warnings]
        env = file.under(env)
        read = Reader(env, from_file)
        home = home_folder(env)
        listen, via = read.hosts()
        max_queue = read.uint("OLLAMA_MAX_QUEUE", 512)
        load_timeout_ns = read.duration("OLLAMA_LOAD_TIMEOUT", 5 * durations.MINUTE)
        request_timeout_ns = read.duration("LLAMERO_REQUEST_TIMEOUT", durations.HOUR)
        return cls(
            home=home,
            models=Path(read.text("OLLAMA_MODELS") or home / "models").expanduser(),
            listen=listen,
            listen_via=via,
            activation={name: env[name] for name in ACTIVATION_VARIABLES if name in env},
            tls_cert=read.path("LLAMERO_TLS_CERT"),
            tls_key=read.path("LLAMERO_TLS_KEY"),
            tls_client_ca=read.path("LLAMERO_TLS_CLIENT_CA"),
            debug_level=read.debug(),
            logs_json=read.choice("LLAMERO_LOG_FORMAT", ("text", "json"), "text") == "json",
            keeps_requests=read.flag("OLLAMA_DEBUG_LOG_REQUESTS"),
            traces_url=read.traces_url(),
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
            allow_ips=read.words("LLAMERO_ALLOW_IPS"),
            trusted_proxies=read.words("LLAMERO_TRUSTED_PROXIES"),
            keys_file=read.path("LLAMERO_API_KEYS_FILE"),
            admin_loopback=read.flag("LLAMERO_ADMIN_LOOPBACK"),
            rate_limit=read.text("LLAMERO_RATE_LIMIT"),
            max_concurrent_per_key=read.uint("LLAMERO_MAX_CONCURRENT_PER_KEY", 0),
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
            warnings=tuple(criticism + read.warnings + unheard(env)),
        )


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


ACTIVATION_VARIABLES = ("LISTEN_PID", "LISTEN_FDS")
"""systemd's protocol, sd_listen_fds(3): not settings, and hence not in TABLE."""


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
    """`map[NAME:value ...]` of every server variable, sorted; secrets and the logins in addresses are left out."""
    pairs = (
        f"{variable.name}:{shown(variable, environment.get(variable.name, variable.default))}"
        for variable in sorted(TABLE, key=lambda each: each.name)
        if variable.where in ("server", "both", "engine", "vendor")
    )
    return f"map[{' '.join(pairs)}]"


def home_folder(env: Mapping[str, str]) -> Path:
    """`~/.ollama`, or LLAMERO_HOME."""
    given = clean(env.get("LLAMERO_HOME", ""))
    return Path(given or Path(clean(env.get("HOME", "")) or Path.home()) / ".ollama").expanduser()


def config_path(env: Mapping[str, str]) -> Path:
    """Where config.toml is, whether there is one or not."""
    return home_folder(env) / "llamero" / "config.toml"


def system_environment() -> Mapping[str, str]:
    """The process's own environment; only entry points call this."""
    return dict(os.environ)
