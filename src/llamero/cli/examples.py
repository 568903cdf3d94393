"""Examples for the help of each command: lines that a newcomer can type. Each is one that the program understands."""

from __future__ import annotations

from collections.abc import Mapping

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "serve": (
        "ollama serve",
        "ollama serve --listen 0.0.0.0:11434 --listen '[::1]:8000'",
        "OLLAMA_CONTEXT_LENGTH=16384 ollama serve",
    ),
    "create": (
        "ollama create mario",
        "ollama create mario -f Modelfile",
        "ollama create small -f Modelfile -q q4_K_M",
        'echo "FROM ./weights.gguf" | ollama create mine -f - --in-place',
    ),
    "show": ("ollama show llama3.2", "ollama show llama3.2 --modelfile", "ollama show llama3.2 --json"),
    "run": (
        "ollama run llama3.2",
        'ollama run llama3.2 "Why is the sky blue?"',
        'cat notes.txt | ollama run llama3.2 "Sum this up:"',
        'ollama run gemma3 --image cat.png "What is this?"',
        'ollama run llama3.2 --format json --temperature 0 "List three colours as JSON"',
    ),
    "stop": ("ollama stop llama3.2", "ollama stop --all"),
    "pull": (
        "ollama pull llama3.2",
        "ollama pull llama3.2:1b all-minilm",
        "ollama pull hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M",
        "ollama pull llama3.2 --limit-rate 5MB",
        "ollama pull llama3.2 --dry-run",
    ),
    "push": ("ollama push ada/mario", "ollama push registry.example.com/team/mario"),
    "signin": ("ollama signin",),
    "signout": ("ollama signout",),
    "list": ("ollama list", "ollama list llama", "ollama list --sort size --wide", "ollama list --json"),
    "ps": ("ollama ps", "ollama ps --wide"),
    "cp": ("ollama cp llama3.2 my-llama",),
    "rm": ("ollama rm llama3.2", "ollama rm --dry-run 'llama3*'", "ollama rm -i mario luigi"),
    "launch": (
        "ollama launch claude",
        "ollama launch codex --model qwen3",
        'ollama launch claude --model qwen3 --yes -- -p "What does this project do?"',
        "ollama launch opencode --config",
        "ollama launch opencode --restore",
    ),
    "help": ("ollama help run",),
    # our own
    "bench": (
        "ollama bench",
        "ollama bench --auto --report today",
        "ollama bench llama3.2 --task coding,json --epochs 3",
        "ollama bench --compare before.json after.json",
    ),
    "cache": ("ollama cache", "ollama cache clear", "ollama cache clear llama3.2"),
    "completion": (
        "source <(ollama completion bash)",
        "ollama completion fish > ~/.config/fish/completions/ollama.fish",
    ),
    "config": ("ollama config", "ollama config set keep_alive 10m", "ollama config get keep_alive"),
    "doctor": ("ollama doctor", "ollama doctor --store", "ollama doctor --store --repair"),
    "du": ("ollama du",),
    "engine": ("ollama engine", "ollama engine build", "ollama engine use wheel"),
    "export": ("ollama export llama3.2 llama.tar", "ollama export llama3.2 - | ssh box ollama import -"),
    "fit": ("ollama fit llama3.3:70b", "ollama fit ./weights.gguf"),
    "hi": ("ollama hi", "ollama hi --auto", "ollama hi llama3.2 qwen3 --timeout 60"),
    "import": (
        "ollama import llama.tar",
        "ollama import weights.gguf --as mine --in-place",
        "ollama import --scan",
    ),
    "key": (
        "ollama key new house --role admin",
        "ollama key new website --role infer --models llama3.2 --expires 30d --rate 60/m",
        "ollama key list",
        "ollama key revoke website",
    ),
    "mv": ("ollama mv llama3.2 my-llama",),
    "prune": ("ollama prune --dry-run", "ollama prune"),
    "search": ("ollama search llama 3.2 instruct", "ollama search qwen --limit 5"),
    "service": (
        "ollama service install --user",
        "ollama service status",
        "ollama service logs -f",
        "ollama service stop",
    ),
    "update": ("ollama update --check", "ollama update", "ollama update llama3.2"),
    "upgrade": ("ollama upgrade",),
    "version": ("ollama version", "ollama version --json"),
}
