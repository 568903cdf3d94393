"""Which template a model has and what it can do, as clients of the API see it (modelfile-templates §3.1, §3.5, §5)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import ollama
import pytest

from tests.gguf_files import tiny_llama
from tests.running import Reply, Server

M = "smollm2:135m"
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
JINJA = "{% for m in messages %}{{ m.content }}{% endfor %}"
TOOL_JINJA = "{% if tools %}{{ tools }}{% endif %}" + JINJA
QWEN = """\
{{- if .Suffix }}<|fim_prefix|>{{ .Prompt }}<|fim_suffix|>{{ .Suffix }}<|fim_middle|>
{{- else if .Messages }}
{{- if or .System .Tools }}<|im_start|>system
{{ .System }}{{ range .Tools }}{{ . }}{{ end }}<|im_end|>
{{ end }}
{{- range .Messages }}
{{- if eq .Role "assistant" }}<|im_start|>assistant
{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}
{{- if .ToolCalls }}<tool_call>{{ range .ToolCalls }}{{ .Function.Arguments }}{{ end }}</tool_call>{{ end }}
{{- .Content }}<|im_end|>
{{ else }}<|im_start|>{{ if eq .Role "tool" }}user{{ else }}{{ .Role }}{{ end }}
{{ .Content }}<|im_end|>
{{ end }}
{{- end }}<|im_start|>assistant
{{ end }}"""


def create(server: Server, model: str, **body: Any) -> Reply:
    reply = server.post("/api/create", {"model": model, **body})
    assert reply.lines()[-1] == {"status": "success"}, reply.body
    return reply


def create_of(server: Server, model: str, jinja: str | None, **body: Any) -> Reply:
    """A model of weights that no other model has."""
    gguf = tiny_llama({"general.name": model, "tokenizer.chat_template": jinja})
    digest = f"sha256:{hashlib.sha256(gguf).hexdigest()}"
    assert server.post(f"/api/blobs/{digest}", gguf).status in (200, 201)
    return create(server, model, files={"model.gguf": digest}, **body)


def show(server: Server, model: str) -> dict[str, Any]:
    shown: dict[str, Any] = server.post("/api/show", {"model": model}).json()
    return shown


def chat(server: Server, model: str, **body: Any) -> Reply:
    return server.post("/api/chat", {"model": model, "messages": [{"role": "user", "content": "hi"}], **body})


@pytest.mark.engine
def test_s77_a_file_with_a_known_chat_template_keeps_rendering_by_its_own(server: Server, smollm2_gguf: Path) -> None:
    """S-77: a Go template and stops are written, for `show` and for other programs; the Jinja is what renders."""
    reply = create(server, "imported", files={"m.gguf": smollm2_gguf.name.replace("-", ":")})
    assert "using autodetected template chatml" in [line["status"] for line in reply.lines()]
    shown = show(server, "imported")
    assert "\nTEMPLATE " in shown["modelfile"]
    assert "{{ range .Messages }}" in shown["modelfile"]
    assert shown["parameters"].split() == ["stop", '"<|im_start|>"', "stop", '"<|im_end|>"']
    assert shown["template"] == show(server, M)["template"]
    ask = {"_debug_render_only": True, "stream": False}
    rendered = chat(server, "imported", **ask).json()["_debug_info"]["rendered_template"]
    assert rendered == chat(server, M, **ask).json()["_debug_info"]["rendered_template"]
    assert "You are a helpful AI assistant named SmolLM" in rendered  # no Go template says so


def test_what_clients_look_for_in_show(server: Server) -> None:
    """Clients search `template` for `tools` and `.Suffix`, and read the same in `capabilities` and the listing."""
    create(server, "coder", template=QWEN, **{"from": M})
    shown = show(server, "coder")
    assert shown["template"] == QWEN
    assert ".Tools" in shown["template"]
    assert ".Suffix" in shown["template"]
    assert set(shown["capabilities"]) == {"completion", "tools", "insert", "thinking"}
    create_of(server, "caller", TOOL_JINJA)
    shown = show(server, "caller")
    assert (shown["template"], shown["capabilities"]) == (TOOL_JINJA, ["tools", "completion"])
    listed = {model["name"]: model.get("capabilities") for model in server.get("/api/tags").json()["models"]}
    assert set(listed["coder:latest"]) == {"completion", "tools", "insert", "thinking"}
    assert listed["caller:latest"] == ["tools", "completion"]
    client = ollama.Client(server.url)
    assert client.show("caller").capabilities == ["tools", "completion"]
    client._client.close()


def test_t73_n90_n91_what_a_model_cannot_do_is_refused(server: Server) -> None:
    """T-73, N-90, N-91; and nothing is loaded for it."""
    create_of(server, "test", JINJA)
    server.unload_all()
    refused = chat(server, "test", tools=[TOOL])
    assert (refused.status, refused.error) == (400, "registry.ollama.ai/library/test:latest does not support tools")
    for think in (True, "low"):
        for path, body in (
            ("/api/chat", {"messages": [{"role": "user", "content": "hi"}]}),
            ("/api/generate", {"prompt": "hi"}),
        ):
            refused = server.post(path, {"model": "test", "think": think, **body})
            assert (refused.status, refused.error) == (400, '"test" does not support thinking')
    assert server.loaded() == []
    for harmless in ({"tools": []}, {"think": False}, {"think": None}):
        assert chat(server, "test", options={"num_predict": 1, "num_ctx": 64}, **harmless).status == 200
    server.unload_all()


@pytest.mark.parametrize(
    ("name", "fields"), [("old-qwen", {"info": {"model_family": "qwen3"}}), ("deepseek-r1:tiny", {})]
)
def test_families_that_learned_to_think_later_say_how_to_get_it(
    server: Server, name: str, fields: dict[str, Any]
) -> None:
    create_of(server, name, JINJA, **fields)
    refused = chat(server, name, think=True)
    hint = "Pull the model again to get the latest version with full thinking support"
    assert (refused.status, refused.error) == (400, f'"{name}" does not support thinking. {hint}')


def test_a_template_that_is_none_harms_only_its_own_model(server: Server) -> None:
    """As another program may have stored it: listing and show go on, and its requests say what is wrong."""
    create_of(server, "broken", None, template="{{ .Prompt }} unbroken")
    digest = hashlib.sha256(b"{{ .Prompt }} unbroken").hexdigest()
    (server.models / "blobs" / f"sha256-{digest}").write_bytes(b"{{ .Tools }}{{ if  broken")
    shown = show(server, "broken")
    assert (shown["template"], shown["capabilities"]) == ("{{ .Tools }}{{ if  broken", ["completion"])
    listed = {model["name"]: model.get("capabilities") for model in server.get("/api/tags").json()["models"]}
    assert listed["broken:latest"] == ["completion"]
    assert server.call("DELETE", "/api/delete", {"model": "broken"}).status == 200


def test_the_setting_of_go_templates_decides_what_models_can_do(start_server: Any) -> None:
    """OLLAMA_GO_TEMPLATE=0 leaves the Jinja only, for the checks as for the listing."""
    own: Server = start_server(OLLAMA_GO_TEMPLATE="0")
    create_of(own, "both", TOOL_JINJA, template="{{ range .Messages }}{{ .Content }}{{ end }}")
    assert show(own, "both")["template"] == TOOL_JINJA
    assert show(own, "both")["capabilities"] == ["tools", "completion"]
    assert chat(own, "both", tools=[TOOL], options={"num_predict": 1, "num_ctx": 64}).status == 200
