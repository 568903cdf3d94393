"""Which tokenizer file counts, which tokens are special, and where the chat templates come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, processors

from llamero.build.convert.vocabulary.chat_template import MAX_TEMPLATE_CHARACTERS
from llamero.errors import BadRequest
from tests.build.convert.tiny_bert import PIECES
from tests.build.convert.tokenizing import byte_level, described, engine_with, read, write_checkpoint

SPECIAL = ["<s>", "</s>", "<|eot_id|>", "<call>", "<stop>", "<more>", "<pad>"]
BOS, EOS, EOT, CALL, STOP, MORE, PAD = range(7)


@pytest.fixture
def folder(tmp_path: Path):
    """A byte-level vocabulary whose first tokens are the special ones; further files by name, `.` as `__`."""

    def write(post_processor: Any = None, config: dict[str, Any] | None = None, **files: Any) -> Path:
        tokenizer = byte_level(special=SPECIAL)
        if post_processor:
            tokenizer.post_processor = post_processor
        written = {name.replace("__", "."): content for name, content in files.items()}
        return write_checkpoint(tmp_path, {"tokenizer.json": tokenizer.to_str(), **written}, **(config or {}))

    return write


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({}, id="none"),
        pytest.param({"tokenizer.json": "{}"}, id="an empty one"),
        pytest.param({"tokenizer.json": {"model": []}}, id="a model that is a list"),
        pytest.param({"tokenizer.json": {"model": {"type": "WordLevel", "vocab": {}}}}, id="a kind without an engine"),
        pytest.param({"vocab.json": {"a": 0}, "merges.txt": "a b"}, id="files that do not say how text is cut"),
    ],
)
def test_a_folder_without_a_tokenizer_we_know_is_refused(tmp_path: Path, files: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match=r"^unknown tokenizer format$"):
        read(write_checkpoint(tmp_path, files))


@pytest.mark.parametrize("text", ["[", "[" * 100_000, '"x"'])
def test_a_tokenizer_json_that_is_not_an_object_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadRequest, match=r"tokenizer\.json is not"):
        read(write_checkpoint(tmp_path, {"tokenizer.json": text}))


def test_word_pieces_are_found_without_a_family_that_asks_for_them(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, {"vocab.txt": "\n".join(PIECES)}, vocab_size=len(PIECES))
    assert read(folder)[0]["model"] == "bert"


@pytest.mark.parametrize(
    ("files", "config", "expected"),
    [
        pytest.param({"tokenizer_config__json": {"eos_token": "</s>"}}, {}, {"eos": EOS}, id="a text"),
        pytest.param(
            {"tokenizer_config__json": {"eos_token": {"content": "</s>"}}}, {}, {"eos": EOS}, id="an object"
        ),
        pytest.param({"special_tokens_map__json": {"pad_token": "<pad>"}}, {}, {"padding": PAD}, id="the map"),
        pytest.param({"generation_config__json": {"eos_token_id": 1}}, {}, {"eos": EOS}, id="an id"),
        pytest.param({}, {"bos_token_id": 0, "eos_token_id": 1}, {"bos": BOS, "eos": EOS}, id="config.json"),
        pytest.param(
            {"tokenizer_config__json": {"eos_token": "</s>"}}, {"eos_token_id": 6}, {"eos": EOS}, id="text beats id"
        ),
        pytest.param(
            {"generation_config__json": {"bos_token_id": 0}}, {"bos_token_id": 6}, {"bos": BOS}, id="generation first"
        ),
        pytest.param(
            {
                "tokenizer_config__json": {
                    f"{kind}_token": text
                    for kind, text in zip(
                        ("bos", "eos", "unk", "sep", "pad", "cls", "mask"), SPECIAL, strict=True
                    )
                }
            },
            {},
            {"bos": 0, "eos": 1, "unknown": 2, "seperator": 3, "padding": 4, "cls": 5, "mask": 6},
            id="all seven",
        ),
        pytest.param({}, {"pad_token_id": -1, "eos_token_id": None}, {}, id="none at all"),
    ],
)  # fmt: skip
def test_special_tokens_are_named_by_text_first_then_by_id(
    folder, files: dict[str, Any], config: dict[str, Any], expected: dict[str, int]
) -> None:
    found, warnings = read(folder(config=config, **files))
    named = {key.removesuffix("_token_id"): value for key, value in found.items() if key.endswith("_token_id")}
    assert {kind: number for kind, number in named.items() if kind not in ("eot", "eom")} == expected
    assert len(warnings) == ("eos" not in expected)


@pytest.mark.parametrize(
    ("ids", "ends", "lists", "warnings"),
    [
        pytest.param(EOS, {"eos": EOS}, None, 0, id="one"),
        pytest.param([EOS], {"eos": EOS}, [EOS], 0, id="a list of one"),
        pytest.param([EOS, EOT], {"eos": EOS}, [EOS, EOT], 0, id="one that the engine knows by its text"),
        pytest.param([EOS, CALL], {"eos": EOS, "eot": CALL}, [EOS, CALL], 0, id="one that it does not"),
        pytest.param([EOS, CALL, STOP], {"eos": EOS, "eot": CALL, "eom": STOP}, [EOS, CALL, STOP], 0, id="two"),
        pytest.param(
            [EOS, CALL, STOP, MORE], {"eos": EOS, "eot": CALL, "eom": STOP}, [EOS, CALL, STOP, MORE], 1, id="too many"
        ),
        pytest.param([EOS, 10**6], {"eos": EOS}, [EOS], 1, id="one beyond the vocabulary"),
    ],
)  # fmt: skip
def test_all_ends_of_a_text_reach_the_engine(
    folder, ids: Any, ends: dict[str, int], lists: list[int] | None, warnings: int
) -> None:
    found, said = read(folder(generation_config__json={"eos_token_id": ids}))
    assert {kind: found[f"{kind}_token_id"] for kind in ("eos", "eot", "eom") if f"{kind}_token_id" in found} == ends
    assert found.get("eos_token_ids") == lists
    assert len(said) == warnings


def test_an_end_of_the_config_counts_beside_the_tokenizers_own(folder) -> None:
    found, _ = read(folder(tokenizer_config__json={"eos_token": "</s>"}, config={"eos_token_id": [EOS, CALL]}))
    assert (found["eos_token_id"], found["eot_token_id"]) == (EOS, CALL)


def around(single: str) -> Any:
    ids = [(text, number) for number, text in enumerate(SPECIAL) if text in single]
    return processors.TemplateProcessing(single, special_tokens=ids)


ENDS = {"bos_token": "<s>", "eos_token": "</s>"}


@pytest.mark.engine
@pytest.mark.parametrize(
    ("post_processor", "settings", "before", "behind"),
    [
        pytest.param(None, ENDS, [], [], id="the file says nothing"),
        pytest.param(around("<s> $A"), ENDS, [BOS], [], id="the template begins"),
        pytest.param(around("<s> $A </s>"), ENDS, [BOS], [EOS], id="and ends"),
        pytest.param(around("$A </s>"), ENDS, [], [EOS], id="or only ends"),
        pytest.param(around("<s> $A"), ENDS | {"add_bos_token": False}, [], [], id="the settings win"),
        pytest.param(None, ENDS | {"add_bos_token": True, "add_eos_token": True}, [BOS], [EOS], id="settings only"),
        pytest.param(around("<call> $A <stop>"), ENDS, [CALL], [STOP], id="other tokens than the settings name"),
        pytest.param(processors.RobertaProcessing(("</s>", 1), ("<s>", 0)), ENDS, [BOS], [EOS], id="RoBERTa"),
        pytest.param(
            processors.Sequence([processors.ByteLevel(), around("<s> $A")]), ENDS, [BOS], [], id="one of several steps"
        ),
    ],
)
async def test_a_text_gets_the_first_and_last_token_that_the_tokenizer_gives_it(
    folder, post_processor: Any, settings: dict[str, Any], before: list[int], behind: list[int]
) -> None:
    written = folder(post_processor, tokenizer_config__json=settings)
    tokenizer = Tokenizer.from_file(str(written / "tokenizer.json"))
    middle = tokenizer.encode("Hello world", add_special_tokens=False).ids
    async with engine_with(written) as wire:
        assert await wire.tokenize("Hello world", add_special=True) == [*before, *middle, *behind]


def test_the_end_that_is_not_appended_still_ends_a_text(folder) -> None:
    found, _ = read(folder(around("$A <stop>"), tokenizer_config__json=ENDS))
    assert (found["eos_token_id"], found["eot_token_id"]) == (STOP, EOS)


@pytest.mark.parametrize(
    ("post_processor", "settings", "warning"),
    [
        (around("<s> <call> $A"), ENDS, "puts 2 tokens around a text, the engine none"),
        (None, {"add_bos_token": True}, "add_bos_token has no effect without such a token"),
        (None, {"eos_token": "<gone>"}, "eos_token '<gone>' is not in the vocabulary"),
    ],
)
def test_what_cannot_be_done_is_warned_of(folder, post_processor: Any, settings: dict[str, Any], warning: str) -> None:
    found, warnings = read(folder(post_processor, tokenizer_config__json=settings))
    assert found["add_bos_token"] is False
    assert sum(warning in text for text in warnings) == 1


@pytest.mark.parametrize(
    ("files", "config", "message"),
    [
        ({"generation_config__json": {"eos_token_id": "2"}}, {}, "generation_config.json: 'eos_token_id' must be"),
        ({"generation_config__json": {"eos_token_id": [1, [2]]}}, {}, "'eos_token_id' must be an id or a list of ids"),
        ({"generation_config__json": [1]}, {}, "generation_config.json is not a JSON object"),
        ({}, {"bos_token_id": True}, "config.json: 'bos_token_id' must be"),
        ({}, {"pad_token_id": 1.0}, "config.json: 'pad_token_id' must be"),
    ],
)
def test_ids_that_are_none_are_refused(folder, files: dict[str, Any], config: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        read(folder(config=config, **files))


def test_a_template_of_tokens_that_do_not_exist_is_refused(tmp_path: Path) -> None:
    template = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<no>"}}, {"Sequence": {"id": "A"}}]}
    description = described(byte_level(), post_processor=template)
    with pytest.raises(BadRequest, match="'post_processor' adds '<no>', which is not in the vocabulary"):
        read(write_checkpoint(tmp_path, {"tokenizer.json": description}))


TWO = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, {}, id="none"),
        pytest.param({"tokenizer_config__json": {"chat_template": "x"}}, {"": "x"}, id="a text"),
        pytest.param({"tokenizer_config__json": {"chat_template": None}}, {}, id="null"),
        pytest.param(
            {"tokenizer_config__json": {"chat_template": TWO}},
            {"": "d", ".tool_use": "t", "s": ["tool_use"]},
            id="a list",
        ),
        pytest.param(
            {"tokenizer_config__json": {"chat_template": TWO[1:]}},
            {".tool_use": "t", "s": ["tool_use"]},
            id="no default",
        ),
        pytest.param({"chat_template__jinja": "j"}, {"": "j"}, id="a file"),
        pytest.param(
            {"chat_template__jinja": "j", "tokenizer_config__json": {"chat_template": "x"}}, {"": "j"}, id="file first"
        ),
        pytest.param({"chat_template__json": {"chat_template": "p"}}, {"": "p"}, id="the file of a processor"),
        pytest.param({"chat_template__jinja": "a\r\nb"}, {"": "a\nb"}, id="lines of Windows"),
    ],
)
def test_chat_templates_come_by_name(folder, files: dict[str, Any], expected: dict[str, Any]) -> None:
    found, _ = read(folder(**files))
    prefix = "tokenizer.chat_template"
    assert {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)} == expected


@pytest.mark.parametrize(
    "stated",
    [
        pytest.param(5, id="a number"),
        pytest.param({"default": "x"}, id="an object"),
        pytest.param(["x"], id="a list of texts"),
        pytest.param([{"name": "default"}], id="a name without a template"),
        pytest.param([{"name": "a.b", "template": "x"}], id="a name with a dot"),
        pytest.param([{"name": "", "template": "x"}], id="an empty name"),
        pytest.param([{"name": "a" * 65, "template": "x"}], id="a long name"),
        pytest.param([TWO[0], TWO[0]], id="one name twice"),
        pytest.param([{"name": f"t{n}", "template": "x"} for n in range(33)], id="too many"),
        pytest.param("x" * (MAX_TEMPLATE_CHARACTERS + 1), id="a long text"),
        pytest.param("\ud800", id="half a character"),
    ],
)
def test_chat_templates_that_cannot_be_are_refused(folder, stated: Any) -> None:
    with pytest.raises(BadRequest, match=r"chat.template"):
        read(folder(tokenizer_config__json={"chat_template": stated}))
