"""Llamero runs large language models on your own machine, as a drop-in for Ollama."""

__version__ = "0.1.0"
"""Our own version: `ollama version` and `ollama --version --json` show it."""

API_LEVEL = "0.32.14"
"""The release of the reference whose behaviour we match. Tools parse and compare it, and the public registry refuses
old ones, so `/api/version`, the first line of `--version`, the start log and every User-Agent carry it (cli §3.14)."""

__all__ = ["API_LEVEL", "__version__"]
