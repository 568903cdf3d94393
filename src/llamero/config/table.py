"""THE table of every variable of the environment, in the order in which documentation prints it (cli §10).

A row says which part honours it. Setting one that nothing honours yet is reported: no option is dead in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["bool", "switch", "uint", "duration", "size", "text", "path", "list", "host", "debug"]
"""`switch`: a boolean, or one of some words."""
Where = Literal["server", "client", "both", "engine", "vendor"]

SPECULATION: Literal["ngram", "off"] = "ngram"
"""Without a word from the operator. It loses nothing on prose and gains on repeated text (bench/speculation.py)."""


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

    @property
    def key(self) -> str:
        """Its name in config.toml (cli §10.3); empty for what no file can say."""
        return "" if self.name in OUTSIDE else self.name.removeprefix("OLLAMA_").removeprefix("LLAMERO_").lower()


OUTSIDE = frozenset(["HOME", "LLAMERO_HOME", "XDG_CONFIG_HOME", "VISUAL", "EDITOR", "TERM", "CI", "NO_COLOR"])
"""They say where the file is, or belong to the session in which a command runs."""


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
    _h("OLLAMA_FLASH_ATTENTION", "switch", "auto", "Force flash attention on or off", "scheduler"),
    _h("OLLAMA_KV_CACHE_TYPE", "text", "f16", "Quantization type of the K/V cache", "scheduler"),
    _h("OLLAMA_LLM_LIBRARY", "text", "", "Set LLM library to bypass autodetection", "engines"),
    _h("OLLAMA_GPU_OVERHEAD", "uint", "0", "Reserve a portion of VRAM per GPU (bytes)", "scheduler"),
    _h("OLLAMA_IGPU_ENABLE", "switch", "", "Allow integrated GPUs", "engines"),
    _h("LLAMA_ARG_FIT", "switch", "on", "Automatic fitting of a model into GPU memory", "engines", "engine"),
    _h("LLAMA_ARG_FIT_TARGET", "text", "", "Memory to leave free per device (MiB)", "engines", "engine"),
    _h("OLLAMA_LOAD_TIMEOUT", "duration", "5m", "How long to allow model loads to stall before giving up", "engines"),
    # Ollama's server, not listed by help
    _v("OLLAMA_DEBUG_LOG_REQUESTS", "bool", "0", "Write inference bodies to a temporary directory", "server"),
    _v("OLLAMA_GO_TEMPLATE", "switch", "", "1: always use the TEMPLATE layer, 0: never", "chat"),
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
    _v("OLLAMA_EDITOR", "text", "", "Path to editor for interactive prompt editing", "cli", "client"),
    _v("VISUAL", "text", "", "Editor, when OLLAMA_EDITOR is unset", "cli", "client"),
    _v("EDITOR", "text", "vi", "Editor, when VISUAL is unset", "cli", "client"),
    _v("OLLAMA_API_KEY", "text", "", "Key sent by clients; for `serve` the keys it asks for", "client, server", "both"),
    _v("OLLAMA_BASE_URL", "text", "", "Server of the greeting and benchmark tools", "cli", "client"),
    _v("GREETING_TIMEOUT_SECONDS", "uint", "120", "Limit per model of the greeting tool", "cli", "client"),
    _v("OLLAMA_SKILLS", "path", "", "Directory of chat skills", "", "client"),
    _v("XDG_CONFIG_HOME", "path", "", "Base of configuration directories", "", "client"),
    _v("OLLAMA_AGENT_DISABLE_SHELL", "switch", "", "Remove the shell tool of the chat menu", "", "client"),
    _v("OLLAMA_AGENT_DISABLE_WEBSEARCH", "switch", "", "Remove the web tools of the chat menu", "", "client"),
    _v("HOME", "path", "", "Base of ~/.ollama", "config", "both"),
    _v("NO_COLOR", "text", "", "No colours in the terminal", "cli", "client"),
    _v("TERM", "text", "", "`dumb`: no control sequences", "cli", "client"),
    _v("CI", "text", "", "Set: progress as plain lines", "cli", "client"),
    # Llamero's own (cli §10.3)
    _v("LLAMERO_HOME", "path", "~/.ollama", "Directory for keys, settings, history and logs", "config", "both"),
    _v(
        "LLAMERO_AUTOSTART",
        "switch",
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
    _v("LLAMERO_API_KEYS_FILE", "path", "~/.ollama/llamero/keys", "Key file", "server"),
    _v("LLAMERO_ADMIN_LOOPBACK", "bool", "0", "Loopback is admin although keys exist", "server"),
    _v("LLAMERO_ALLOW_IPS", "list", "", "Addresses and networks that may connect, and no others", "server"),
    _v("LLAMERO_TRUSTED_PROXIES", "list", "", "Proxies that answer for what they forward", "server"),
    _v("LLAMERO_ALLOWED_HOSTS", "list", "", "Host names accepted besides the built-in ones", "server"),
    _v("LLAMERO_INSECURE_PUBLIC", "bool", "0", "Serve public peers without a key", "server"),
    _v("LLAMERO_RATE_LIMIT", "text", "", "Requests per key (per address without keys), e.g. 60/m", "server"),
    _v("LLAMERO_MAX_CONCURRENT_PER_KEY", "uint", "0", "Simultaneous requests per key, 0 no limit", "server"),
    _v("LLAMERO_TLS_CERT", "path", "", "Certificate of the server (PEM, with its chain): switches TLS on", "server"),
    _v("LLAMERO_TLS_KEY", "path", "", "Private key of the certificate (PEM)", "server"),
    _v("LLAMERO_TLS_CLIENT_CA", "path", "", "Clients need a certificate of this authority (PEM)", "server"),
    _v("LLAMERO_CLIENT_CERT", "path", "", "Certificate shown to a server that asks for one (PEM)", "client", "client"),
    _v("LLAMERO_CLIENT_KEY", "path", "", "Its private key (PEM); unset: in the same file", "client", "client"),
    _v("LLAMERO_ALLOW_ROOT", "bool", "0", "1 silences the warning about uid 0", "cli"),
    _v("LLAMERO_ALLOW_PRIVATE_REGISTRIES", "list", "", "Private hosts that may be asked", "registry"),
    _v("LLAMERO_MODEL_POLICY", "text", "any", "Which models may be pulled", "registry"),
    _v("LLAMERO_LIMIT_RATE", "size", "", "Bytes per second of all transfers", "registry"),
    _v("LLAMERO_MIRRORS", "list", "", "host=URL|URL pairs asked instead of a registry", "registry"),
    _v("LLAMERO_SHARE", "switch", "0", "1: serve /v2/ read-only, through: also fetch what is missing", "server"),
    _v("LLAMERO_PEERS", "list", "", "Servers asked first on pull", "registry"),
    _v("LLAMERO_FETCH_IMAGES", "bool", "0", "Fetch pictures that requests name by URL", "pictures"),
    _v("LLAMERO_EFFORT_FALLBACK", "bool", "0", "Ignore reasoning effort where a model has none", "server"),
    _v("LLAMERO_COMPLETIONS_RAW", "bool", "0", "/v1/completions without a template", "server"),
    _v("LLAMERO_MESSAGES_THINK", "bool", "0", "Thinking on by default on /v1/messages", "server"),
    _v("LLAMERO_RESPONSES", "text", "disk", "Where /v1/responses are kept: disk, memory, off", "responses"),
    _v("LLAMERO_LOG_FORMAT", "text", "text", "Lines of the server's logs: text, json", "cli"),
    # of OpenTelemetry's; what else it defines is read by its library, the extra `otel`
    _v(
        "OTEL_EXPORTER_OTLP_ENDPOINT", "text", "", "Collector that traces are sent to, its base URL", "server", "vendor"
    ),
    _v("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "text", "", "The same, the whole URL", "server", "vendor"),
)


BY_NAME: Mapping[str, Variable] = {variable.name: variable for variable in TABLE}
BY_KEY: Mapping[str, Variable] = {variable.key: variable for variable in TABLE if variable.key}
