"""What a model can do and which way its prompts go (modelfile-templates §3.3, §3.5, §5)."""

from __future__ import annotations

from typing import Any

import pytest

from llamero.gguf import Gguf, read_header
from llamero.store.capabilities import DEFAULT_TEMPLATE, PARSERS, Templates, capabilities, parser_of, traits_of
from llamero.template.builtin import TEMPLATES
from llamero.template.cache import MAX_KEPT_CHARS
from tests.gguf_files import gguf_file

TOOL_JINJA = "{% if tools %}{{ tools }}{% endif %}{% for m in messages %}{% if m['role'] == 'tool' %}{{ m.tool_calls }}"
PLAIN_JINJA = "{% for m in messages %}{{ m.content }}{% endfor %}"
HALF_JINJA = "{{ tools }}<think></think>"
TOOL_GO = '{{ range .Messages }}{{ if eq .Role "tool" }}{{ .Content }}{{ end }}{{ .ToolCalls }}{{ end }}{{ .Tools }}'
ONE_WAY_GO = "{{ range .Messages }}{{ .Content }}{{ end }}{{ .Tools }}"
THINKING_GO = "{{ range .Messages }}{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}{{ end }}"
PLAIN_GO = "{{ .System }} {{ .Prompt }}"
BARE_GO = "{{ .Prompt }}"
INSERT_GO = "{{ .Prompt }}<hole>{{ .Suffix }}"
BROKEN_GO = "{{ .Tools }}{{ .Suffix }}{{ if"


@pytest.mark.parametrize(
    ("templates", "path"),
    [
        # 1. OLLAMA_GO_TEMPLATE decides first: 1 takes the layer, 0 never does
        pytest.param(Templates(go=PLAIN_GO, jinja=PLAIN_JINJA, setting=True), "go", id="1 forced, T-62 env 1"),
        pytest.param(Templates(go=BARE_GO, is_users=True, jinja=PLAIN_JINJA, setting=True), "go", id="1 forced, bare"),
        pytest.param(Templates(jinja=PLAIN_JINJA, setting=True), "jinja", id="nothing to force"),
        pytest.param(Templates(setting=True), "chatml", id="nothing at all to force"),
        pytest.param(Templates(go=PLAIN_GO, is_users=True, jinja=PLAIN_JINJA, setting=False), "jinja", id="forbidden"),
        pytest.param(Templates(go=PLAIN_GO, setting=False), "chatml", id="forbidden, T-62 env 0"),
        pytest.param(Templates(go=PLAIN_GO, bundled=PLAIN_JINJA, setting=True), "go", id="1 forced, bundled"),
        # 2. the user's own text is never overridden
        pytest.param(Templates(go=PLAIN_GO, is_users=True, jinja=PLAIN_JINJA), "go", id="2 users"),
        pytest.param(Templates(go=PLAIN_GO, is_users=True, jinja=TOOL_JINJA), "go", id="2 users, T-63 in Llamero"),
        pytest.param(Templates(go=PLAIN_GO, is_users=True, bundled=TOOL_JINJA), "go", id="2 users, bundled"),
        pytest.param(Templates(go=BROKEN_GO, is_users=True, jinja=PLAIN_JINJA), "go", id="2 users, broken"),
        pytest.param(Templates(go=BARE_GO, is_users=True, jinja=PLAIN_JINJA), "jinja", id="2 bare counts as none"),
        pytest.param(Templates(go=f" {BARE_GO}\n", is_users=True, jinja=PLAIN_JINJA), "jinja", id="2 bare with blanks"),
        pytest.param(Templates(go=BARE_GO, is_users=True, bundled=PLAIN_JINJA), "jinja", id="2 bare, bundled"),
        pytest.param(Templates(go=BARE_GO, is_users=True), "go", id="2 bare is all there is"),
        # 3. the file's Jinja, unless only the Go template can hand tool results back
        pytest.param(Templates(jinja=PLAIN_JINJA), "jinja", id="3"),
        pytest.param(Templates(go=PLAIN_GO, jinja=PLAIN_JINJA), "jinja", id="3 over a publisher's"),
        pytest.param(Templates(go=PLAIN_GO, jinja=TOOL_JINJA), "jinja", id="3 T-62 only Jinja has tools"),
        pytest.param(Templates(go=TOOL_GO, jinja=TOOL_JINJA), "jinja", id="3 T-63 both with a round trip"),
        pytest.param(Templates(go=ONE_WAY_GO, jinja=HALF_JINJA), "jinja", id="3 no round trip on either side"),
        pytest.param(Templates(go=BROKEN_GO, jinja=PLAIN_JINJA), "jinja", id="3 over a broken one"),
        pytest.param(Templates(go=TOOL_GO, jinja=PLAIN_JINJA), "go", id="3 exception"),
        pytest.param(Templates(go=TOOL_GO, jinja=HALF_JINJA), "go", id="3 exception, T-63"),
        # 4. our own Jinja for a renderer or a family
        pytest.param(Templates(bundled=PLAIN_JINJA), "jinja", id="4"),
        pytest.param(Templates(go=TOOL_GO, bundled=PLAIN_JINJA), "jinja", id="4 over a publisher's"),
        # 5. and 6. no Jinja
        pytest.param(Templates(go=PLAIN_GO), "go", id="5 T-62 Go template only"),
        pytest.param(Templates(), "chatml", id="6"),
    ],
)
def test_which_way_prompts_are_made(templates: Templates, path: str) -> None:
    """T-62, T-63: the choice; what each path makes of a conversation stands with its own tests."""
    assert templates.path == path


def test_t63_the_kept_go_template_decides_what_is_offered() -> None:
    """T-63: the Jinja alone knows thinking, and is not used."""
    assert found(Templates(go=TOOL_GO, jinja=HALF_JINJA)) == ("tools",)
    assert found(Templates(jinja=HALF_JINJA)) == ("tools", "thinking")


@pytest.mark.parametrize(
    "result",
    [
        "m['role'] == 'tool'",
        'm["role"] == "tool"',
        'message.role == "tool"',
        "ipython",
        "tool_response",
        "tool_results",
    ],
)
def test_a_jinja_tool_round_trip_is_known_in_every_spelling(result: str) -> None:
    jinja = "{% if tool_call %}{{ tool_calls }}{% if " + result + " %}"
    assert Templates(go=TOOL_GO, jinja=jinja).path == "jinja"
    half = jinja.replace("tool_calls", "").replace(result, "x")
    assert Templates(go=TOOL_GO, jinja=half).path == "go"


@pytest.mark.parametrize(
    ("templates", "shown"),
    [
        (Templates(), DEFAULT_TEMPLATE),
        (Templates(go=PLAIN_GO), PLAIN_GO),
        (Templates(go=PLAIN_GO, is_users=True, jinja=PLAIN_JINJA), PLAIN_GO),
        (Templates(go=PLAIN_GO, jinja=PLAIN_JINJA), PLAIN_JINJA),
        (Templates(go=PLAIN_GO, bundled=TOOL_JINJA), TOOL_JINJA),
        (Templates(go=INSERT_GO, jinja=PLAIN_JINJA), INSERT_GO),
    ],
    ids=["none", "go", "the user's", "jinja", "bundled", "one with .Suffix, which serves beside the Jinja"],
)
def test_the_template_in_force(templates: Templates, shown: str) -> None:
    assert templates.in_force == shown


@pytest.mark.parametrize(
    ("given", "parser"),
    [
        ({}, ""),
        ({"named": "who knows"}, "who knows"),
        ({"family": "gptoss", "go": "<|start|>x<|end|>"}, "harmony"),
        ({"family": "gpt-oss", "go": "<|start|>x<|end|>"}, "harmony"),
        ({"family": "gptoss", "go": "<|start|>x<|end|>", "named": "passthrough"}, "passthrough"),
        ({"family": "gptoss", "go": "<|start|>x"}, ""),
        ({"family": "llama", "go": "<|start|>x<|end|>"}, ""),
    ],
)
def test_t64_harmony_is_known_by_family_and_template(given: dict[str, str], parser: str) -> None:
    """Partly T-64: that a PARSER beside a Jinja changes nothing is shown by `test_a_parser_does_not_choose_the_way`."""
    assert parser_of(**{"named": "", "family": "", "go": ""} | given) == parser


def header(**keys: Any) -> Gguf:
    return read_header(gguf_file({"general.architecture": "a", **keys}))


def found(templates: Templates | None = None, **given: Any) -> tuple[str, ...]:
    return capabilities(templates or Templates(), **given)


def jinja(text: str) -> tuple[Templates]:
    return (Templates(jinja=text),)


def go(text: str) -> tuple[Templates]:
    return (Templates(go=text),)


CLIP = {"general.architecture": "clip"}


@pytest.mark.parametrize(
    ("templates", "expected"),
    [
        # 5.2
        (jinja("{{ tools }}"), ("tools",)),
        (jinja("{{ tool_call }}"), ("tools",)),
        (jinja("<think></think>"), ("thinking",)),
        (jinja("<think>"), ()),
        (jinja("{{ content.split('</think>')[-1] }}"), ("thinking",)),
        (jinja('{{ content.split("</think>")[-1] }}'), ("thinking",)),
        (jinja("{{ content.split('</think>')[-1] }}<SPECIAL_12>"), ()),
        (jinja("{% if enable_thinking %}"), ("thinking",)),
        (jinja("{{ reasoning_effort }}"), ("thinking",)),
        (jinja("{{ m.reasoning_content }}"), ("thinking",)),
        (jinja("<|channel|>analysis"), ("thinking",)),
        (jinja("<|channel>thought"), ("thinking",)),
        (jinja("[THINK]"), ("thinking",)),
        (jinja("<|START_THINKING|>"), ("thinking",)),
        ((Templates(bundled="{{ tools }}[THINK]"),), ("tools", "thinking")),
        # the Jinja counts only where it is used
        ((Templates(jinja="{{ tools }}", go=PLAIN_GO, is_users=True),), ()),
        ((Templates(jinja="{{ tools }}", go=PLAIN_GO, is_users=True, setting=False),), ("tools",)),
        # 5.5
        (go(TOOL_GO), ("tools",)),
        (go(THINKING_GO), ("thinking",)),
        (go("<think>{{ .Thinking }}</think>{{ .Content }}"), ()),
        (go("{{ range .Messages }}{{ .Thinking }}{{ end }}"), ()),
        (go("{{ range .Messages }}<a>{{ .Thinking }}{{ end }}"), ()),
        (go("tools and suffix in plain text {{ .Prompt }}"), ()),
        (go("{{ (index .Messages 0).Suffix }}"), ()),
        (go(BROKEN_GO), ()),
        ((Templates(go=TOOL_GO, setting=False),), ()),
    ],
)
def test_what_templates_add(templates: tuple[Templates], expected: tuple[str, ...]) -> None:
    """The steps 5.2 and 5.5."""
    assert found(*templates) == expected


def test_t72_a_suffix_is_inserted_by_a_go_template() -> None:
    """T-72: also beside a Jinja that serves everything else, and never by a Jinja."""
    assert found(*go(INSERT_GO)) == ("insert",)
    assert found(Templates(go=INSERT_GO, jinja=PLAIN_JINJA)) == ("insert",)
    assert found(*jinja("{{ suffix }}{{ .Suffix }}")) == ()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ()),
        # 5.1
        ({"stored": ("image", "tools")}, ("image", "tools")),
        # 5.3
        ({"weights": header()}, ("completion",)),
        ({"weights": header(**{"a.pooling_type": 1})}, ("embedding",)),
        (
            {"weights": header(**{"a.vision.block_count": 2, "a.audio.block_count": 3})},
            ("completion", "vision", "audio"),
        ),
        ({"weights": header(**{"a.vision.block_count": 0})}, ("completion",)),
        (
            {"weights": header(**{f"tokenizer.ggml.fim_{part}_token_id": 1 for part in ("pre", "suf", "mid")})},
            ("completion", "insert"),
        ),
        (
            {"weights": header(**{"tokenizer.ggml.fim_pre_token_id": 1, "tokenizer.ggml.fim_suf_token_id": 2})},
            ("completion",),
        ),
        ({"weights": header(**{"tokenizer.ggml.fim_pre_token_id": 1})}, ("completion",)),
        # 5.4
        ({"projectors": (header(**CLIP),)}, ("vision",)),
        ({"projectors": (None,)}, ("vision",)),
        ({"projectors": (header(**CLIP, **{"clip.has_audio_encoder": True}),)}, ("vision", "audio")),
        ({"projectors": (header(**CLIP, has_audio_encoder=True),)}, ("vision", "audio")),
        ({"projectors": (header(**CLIP, **{"clip.has_audio_encoder": False}),)}, ("vision",)),
        (
            {"projectors": (header(**CLIP, **{"clip.has_audio_encoder": True, "clip.projector_type": "gemma3nv"}),)},
            ("vision",),
        ),
        # 5.6
        ({"parser": "qwen3-thinking"}, ("tools", "thinking")),
        ({"parser": "olmo3-think"}, ("thinking",)),
        ({"parser": "passthrough"}, ()),
        ({"parser": "who knows"}, ()),
        ({"parser": "olmo3", "templates": Templates(bundled="{{ tools }}[THINK]")}, ("tools",)),
        ({"parser": "olmo3", "templates": Templates(jinja="{{ tools }}[THINK]")}, ("tools", "thinking")),
        # 5.7
        ({"family": "gptoss"}, ("thinking",)),
        ({"family": "gpt-oss"}, ("thinking",)),
        # 5.8
        ({"family": "nemotron_h_omni", "weights": header(**{"a.audio.block_count": 3})}, ("completion",)),
        ({"stored": ("vision", "audio"), "renderer": "gemma4", "format": "safetensors"}, ()),
        ({"stored": ("vision", "audio"), "renderer": "glimmer", "format": "safetensors"}, ("vision",)),
        ({"stored": ("vision", "audio"), "renderer": "nemotron-3-nano", "format": "safetensors"}, ()),
        ({"stored": ("vision", "audio"), "renderer": "gemma4", "format": "gguf"}, ("vision", "audio")),
        # the order is that of the steps
        (
            {
                "templates": Templates(jinja="{{ tools }}", go=INSERT_GO),
                "stored": ("vision",),
                "parser": "qwen3-thinking",
                "weights": header(),
                "projectors": (header(**CLIP),),
            },
            ("vision", "tools", "completion", "insert", "thinking"),
        ),
    ],
)
def test_capabilities(given: dict[str, Any], expected: tuple[str, ...]) -> None:
    """T-71, and the other steps of §5."""
    assert found(**given) == expected


def test_every_parser_of_the_table_adds_something() -> None:
    assert all(found(parser=name) for name in PARSERS)


def test_a_parser_does_not_choose_the_way() -> None:
    """T-64 in Llamero: the Jinja serves, the parser's name adds what it can do."""
    assert found(Templates(jinja=PLAIN_JINJA), parser="qwen3-thinking") == ("tools", "thinking")
    assert found(Templates(jinja="<think></think>"), parser="unknown") == ("thinking",)


# --- what a Go template says ---


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_what_the_built_in_templates_say(name: str) -> None:
    traits = traits_of(TEMPLATES[name])
    assert (traits.tools, traits.round_trip) == ((True, True) if name == "command-r" else (False, False))
    assert not traits.insert
    assert not traits.thinking


def test_hostile_templates_say_nothing_and_soon() -> None:
    """The parser's own limits hold; a text that is too long to be remembered is read all the same."""
    for text in ("{{" * 500_000, "{{ " + "." * 1_000_000, "{{ ." + "a" * 2_000_000 + " }}"):
        assert traits_of(text) == traits_of("")
    assert traits_of("x" * MAX_KEPT_CHARS + INSERT_GO).insert
