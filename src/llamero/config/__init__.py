"""Settings: THE table of every variable, and one frozen value made from mappings. Nothing else reads the environment.

`table` (the rows), `words` and `hosts` (single values as people write them), `secrets` (what of them may be shown),
`file` (config.toml), `read` (a mapping by the rules of cli §10), `settings` (the value that is passed in), `example` (a
file that changes nothing).
"""

from .file import NO_FILE, ConfigFile, Origin, as_text, nearest_key, parse_config, read_config
from .hosts import DEFAULT_PORT, HostUrl, is_base_url, parse_host, parse_hosts
from .secrets import is_secret, shown
from .settings import (
    ENGINE_FALSE,
    ENGINE_NAMES,
    ENGINE_PREFIXES,
    KV_CACHE_TYPES,
    REGISTRY_VARIABLES,
    Settings,
    config_path,
    describe,
    system_environment,
)
from .table import BY_KEY, BY_NAME, SPECULATION, TABLE, Kind, Variable, Where
from .words import parse_keep_alive, parse_size

__all__ = [
    "BY_KEY",
    "BY_NAME",
    "DEFAULT_PORT",
    "ENGINE_FALSE",
    "ENGINE_NAMES",
    "ENGINE_PREFIXES",
    "KV_CACHE_TYPES",
    "NO_FILE",
    "REGISTRY_VARIABLES",
    "SPECULATION",
    "TABLE",
    "ConfigFile",
    "HostUrl",
    "Kind",
    "Origin",
    "Settings",
    "Variable",
    "Where",
    "as_text",
    "config_path",
    "describe",
    "is_base_url",
    "is_secret",
    "nearest_key",
    "parse_config",
    "parse_host",
    "parse_hosts",
    "parse_keep_alive",
    "parse_size",
    "read_config",
    "shown",
    "system_environment",
]
