"""native-api §1.5 and §1.6: request bodies are read as leniently as Go reads them, and refused in its words.

The structs stand for requests of the native API. The texts of wrong types were printed by Go for the same fields; where
a row's id names a behaviour, only its status and text are shown here, the HTTP around it is shown with the server.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.dialects import gojson, gosyntax
from llamero.dialects.gojson import Custom, GoType, WrongType, decode, decode_value, encode, ordered_map
from llamero.errors import BadRequest

Images = Annotated[list[Annotated[bytes, GoType("api.ImageData")]], msgspec.Meta(max_length=3)]


def level(value: Any) -> str:
    if isinstance(value, str) and value in ("low", "high"):
        return value
    if isinstance(value, bool):
        raise WrongType
    raise BadRequest("no such level")


class Function(msgspec.Struct):
    index: int = 0
    name: str = ""
    arguments: Annotated[dict[str, Any], Custom(ordered_map)] = {}


class ToolCall(msgspec.Struct):
    id: str = ""
    function: Function = msgspec.field(default_factory=Function)


class Message(msgspec.Struct):
    role: str = ""
    content: str = ""
    images: Images = []
    tool_calls: tuple[ToolCall, ...] = ()


class ChatRequest(msgspec.Struct):
    model: str = ""
    name: str = ""
    messages: Annotated[list[Message], GoType("[]api.Message"), msgspec.Meta(max_length=4)] = []
    tools: Annotated[list[dict[str, Any]], GoType("api.Tools")] = []
    stream: bool | None = None
    options: dict[str, Any] = {}
    files: dict[str, str] | None = None
    format: Any = None
    images: Images = []
    context: list[int] = []
    stop: list[str] = []
    dimensions: int = 7
    weight: float = 1.0
    think: Annotated[str | None, Custom(level), GoType("api.Level")] = None
    debug: bool = msgspec.field(default=False, name="_debug_render_only")


def read(body: bytes | str) -> ChatRequest:
    return decode(body.encode() if isinstance(body, str) else body, ChatRequest, "ChatRequest").value


def refusal(body: bytes | str) -> str:
    with pytest.raises(BadRequest) as error:
        read(body)
    assert error.value.status == 400
    return str(error.value)


def test_every_kind_of_field_is_read() -> None:
    request = read(
        """{"model": "m", "messages": [{"role": "user", "content": "hé", "images": ["QUJD"], "tool_calls":
        [{"id": "c", "function": {"index": 1, "name": "f", "arguments": {"A": 1, "a": 2}}}]}], "tools": [{"Type": "x"}],
        "stream": false, "options": {"Stop": ["a"], "stop": ["b"]}, "files": {"F": "x"}, "format": {"type": "object"},
        "images": ["QQ=="], "context": [1, 2], "stop": ["s"], "dimensions": -9223372036854775808, "weight": 2,
        "think": "low", "_debug_render_only": true}"""
    )
    call = ToolCall("c", Function(1, "f", {"A": 1, "a": 2}))
    assert request == ChatRequest(
        model="m",
        messages=[Message("user", "hé", [b"ABC"], (call,))],
        tools=[{"Type": "x"}],
        stream=False,
        options={"Stop": ["a"], "stop": ["b"]},
        files={"F": "x"},
        format={"type": "object"},
        images=[b"A"],
        context=[1, 2],
        stop=["s"],
        dimensions=-(1 << 63),
        weight=2.0,
        think="low",
        debug=True,
    )
    assert type(request.weight) is float


@pytest.mark.parametrize(
    "body",
    [
        '{"MODEL":"m","Messages":[{"ROLE":"user","Content":"x","TOOL_CALLS":[{"Function":{"NAME":"f"}}]}]}',
        '{"model":"m","meſſages":[{"role":"user","content":"x","tool_calls":[{"function":{"name":"f"}}]}]}',
        '{"m\\u006fdel":"m","messages":[{"role":"user","content":"x","toolcalls":1,"tool_calls":[{"function":{"name":"f"}}]}]}',
    ],
)
def test_keys_match_in_any_case_at_every_level(body: str) -> None:
    """partly N-21"""
    assert read(body) == ChatRequest("m", messages=[Message("user", "x", [], (ToolCall("", Function(0, "f")),))])


def test_unknown_keys_are_named_only_at_the_top() -> None:
    """partly N-22"""
    body = b'{"Zebra":1,"model":"m","zebra":{"x":[1]},"messages":[{"apple":1}],"options":{"pear":1}} and more'
    decoded = decode(body, ChatRequest, "ChatRequest")
    assert decoded.unknown == ("Zebra", "zebra")
    assert decoded.value == ChatRequest("m", messages=[Message()], options={"pear": 1})


@pytest.mark.parametrize("key", [each.encode_name for each in msgspec.structs.fields(ChatRequest)])
def test_null_is_the_same_as_absent(key: str) -> None:
    """partly N-23"""
    assert read(json.dumps({key: None})) == ChatRequest()


@pytest.mark.parametrize(
    ("body", "request_"),
    [
        ("null", ChatRequest()),
        (" {} ", ChatRequest()),
        ('{"messages":[null,{"content":null,"tool_calls":[null]}]}', [Message(), Message(tool_calls=(ToolCall(),))]),
        ('{"images":[null]}', ChatRequest(images=[b""])),
        ('{"context":[null,1]}', ChatRequest(context=[0, 1])),
        ('{"files":{"a":null}}', ChatRequest(files={"a": ""})),
        ('{"options":{"a":null}}', ChatRequest(options={"a": None})),
    ],
)
def test_null_inside_lists_and_maps_is_the_empty_value(body: str, request_: ChatRequest | list[Message]) -> None:
    expected = request_ if isinstance(request_, ChatRequest) else ChatRequest(messages=request_)
    assert read(body) == expected


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param('{"model":1}', "number into Go struct field ChatRequest.model of type string", id="partly N-19"),
        pytest.param('{"stream":"false"}', "string into Go struct field ChatRequest.stream of type bool", id="stream"),
        ('{"Stream":0}', "number into Go struct field ChatRequest.stream of type bool"),
        ('{"options":[]}', "array into Go struct field ChatRequest.options of type map[string]interface {}"),
        ('{"files":"a"}', "string into Go struct field ChatRequest.files of type map[string]string"),
        ('{"files":{"a":true}}', "bool into Go struct field ChatRequest.files of type string"),
        ('{"messages":"a"}', "string into Go struct field ChatRequest.messages of type []api.Message"),
        ('{"messages":[1]}', "number into Go struct field ChatRequest.messages of type api.Message"),
        ('{"images":"abc"}', "string into Go struct field ChatRequest.images of type []api.ImageData"),
        ('{"images":[1]}', "number into Go struct field ChatRequest.images of type api.ImageData"),
        ('{"tools":{}}', "object into Go struct field ChatRequest.tools of type api.Tools"),
        ('{"context":"a"}', "string into Go struct field ChatRequest.context of type []int"),
        ('{"stop":"a"}', "string into Go struct field ChatRequest.stop of type []string"),
        ('{"stop":[{}]}', "object into Go struct field ChatRequest.stop of type string"),
        ('{"weight":"1"}', "string into Go struct field ChatRequest.weight of type float64"),
        ('{"weight":true}', "bool into Go struct field ChatRequest.weight of type float64"),
        ('{"dimensions":true}', "bool into Go struct field ChatRequest.dimensions of type int"),
        ('{"think":true}', "bool into Go struct field ChatRequest.think of type api.Level"),
        pytest.param(
            '{"messages":[{},{"content":[{"type":"text"}]}]}',
            "array into Go struct field ChatRequest.messages.content of type string",
            id="partly N-25",
        ),
        (
            '{"messages":[{"tool_calls":[{"function":{"name":1}}]}]}',
            "number into Go struct field ChatRequest.messages.tool_calls.function.name of type string",
        ),
        ("[]", "array into Go value of type api.ChatRequest"),
        ('"a"', "string into Go value of type api.ChatRequest"),
        ("1.5", "number into Go value of type api.ChatRequest"),
        ("true", "bool into Go value of type api.ChatRequest"),
        ('{"model":[],"stream":1}', "array into Go struct field ChatRequest.model of type string"),
    ],
)
def test_a_wrong_type_names_kind_field_and_type(body: str, text: str) -> None:
    """partly N-18, partly N-20"""
    assert refusal(body) == f"json: cannot unmarshal {text}"


@pytest.mark.parametrize(
    "literal", ["1.5", "5.0", "5e0", "-0.0", "1E-2", "9223372036854775808", "-9223372036854775809", "1" + "0" * 300]
)
def test_an_integer_field_takes_only_integers_and_quotes_the_rest(literal: str) -> None:
    text = f"json: cannot unmarshal number {literal} into Go struct field ChatRequest.dimensions of type int"
    assert refusal(f'{{"model":"m","dimensions": {literal} }} rest') == text
    assert refusal(f'{{"context":[1,{literal}]}}') == text.replace("dimensions", "context")


@pytest.mark.parametrize("literal", ["1e400", "-1E+999", "1" + "0" * 400, "9" * 5000])
@pytest.mark.parametrize("key", ["weight", "options", "dimensions", "unheard_of"])
def test_a_number_beyond_64_bit_floats_is_refused_everywhere(key: str, literal: str) -> None:
    assert refusal(f'{{"{key}":{{"a":[{literal}]}}}}').startswith("json: ")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param("", "missing request body", id="partly N-16"),
        pytest.param("{", "unexpected EOF", id="partly N-17"),
        pytest.param('{"a":NaN}', "invalid character 'N' looking for beginning of value", id="partly N-24"),
        ('{"a":[-Infinity]}', "invalid character 'I' in numeric literal"),
        ("\ufeff{}", "invalid character 'ï' looking for beginning of value"),
        ('{"model":"a\tb"}', r"invalid character '\t' in string literal"),
        ('{"model":5.0,}', "invalid character '}' looking for beginning of object key string"),
    ],
)
def test_syntax_comes_before_types(body: str, text: str) -> None:
    assert refusal(body) == text


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model":"a\xffb\xf0\x9f\x98"}', "a\ufffdb\ufffd\ufffd\ufffd"),
        (rb'{"model":"\ud800\u0041\ud83d\ude00"}', "\ufffdA\U0001f600"),
        (b' \n{"model":"m"}\x00', "m"),
    ],
)
def test_bytes_that_only_go_accepts_are_mended(body: bytes, model: str) -> None:
    assert read(body) == ChatRequest(model)


@pytest.mark.parametrize(
    "body",
    [
        '{"model":"a","stream":true,"model":"a"}',
        '{"model":"a","MODEL":"b"}',
        '{"model":"a","mo\\u0064el":"b"}',
        '{"name":"a","x":{},"Name":null}',
        '{"model":"a","model":"b"} rest',
    ],
)
def test_model_or_name_twice_is_refused(body: str) -> None:
    """partly X-62: a filter in front of us may look at the other one."""
    name = "name" if "name" in body else "model"
    assert refusal(body) == f'duplicate key "{name}"'
    with pytest.raises(BadRequest, match="duplicate key"):
        decode_value(body.encode())


@pytest.mark.parametrize(
    ("body", "request_"),
    [
        ('{"model":"a","name":"b"}', ChatRequest("a", "b")),
        ('{"stop":["a"],"stop":["b"]}', ChatRequest(stop=["b"])),
        ('{"stop":["a"],"STOP":["b"]}', ChatRequest(stop=["b"])),
        ('{"stop":["a"],"Stop":["b"],"stop":["c"]}', ChatRequest(stop=["c"])),
        (
            '{"options":{"name":1,"name":2,"model":1,"Model":2}}',
            ChatRequest(options={"name": 2, "model": 1, "Model": 2}),
        ),
    ],
)
def test_of_other_duplicates_the_last_one_wins(body: str, request_: ChatRequest) -> None:
    assert read(body) == request_
    assert read(body + "rest") == request_


def nested(depth: int, opening: str, closing: str) -> str:
    return opening * depth + closing * depth


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":[', "]}")])
def test_nesting_has_a_limit_and_no_depth_breaks_the_decoder(opening: str, closing: str) -> None:
    """partly X-62"""
    brackets = len(closing)
    fits = nested((gosyntax.MAX_DEPTH - 2) // brackets, opening, closing)
    for rest in ("", " rest"):  # the quick way and the exact one
        assert read(f'{{"options":{{"a":{fits}}}}}{rest}').options == {"a": json.loads(fits)}
        for depth in (gosyntax.MAX_DEPTH - 1, 3000, 100_000):
            assert refusal(f'{{"options":{{"a":{nested(depth, opening, closing)}}}}}{rest}').endswith(
                "exceeded max depth"
            )


def test_an_empty_list_counts_as_a_level() -> None:
    decode_value(nested(64, "[", "]").encode())
    with pytest.raises(BadRequest, match=re.escape("invalid character '[' exceeded max depth")):
        decode_value(nested(65, "[", "]").encode())


def test_floods_are_refused() -> None:
    """partly X-62: more messages than the struct allows, and more values than any request needs."""
    assert refusal(json.dumps({"messages": [{}] * 5})) == "messages: at most 4 items are accepted"
    assert (
        refusal(json.dumps({"messages": [{"images": ["QQ=="] * 4}]})) == "messages.images: at most 3 items are accepted"
    )
    flood = b'{"x":[' + b"[]," * gojson.MAX_STRUCTURE + b"[]]}"
    with pytest.raises(BadRequest, match="too many values"):
        decode_value(flood)


def test_a_long_body_is_read_when_it_is_sound_and_refused_quickly_when_not() -> None:
    text = "x" * gojson.MAX_EXACT_BYTES
    assert read(f'{{"model":"{text}"}}') == ChatRequest(text)
    assert "invalid JSON" in refusal(f'{{"model":"{text}"')


@pytest.mark.parametrize("arguments", ['"{}"', "[]", "1", "true"])
def test_tool_arguments_are_an_object(arguments: str) -> None:
    """partly N-27"""
    body = f'{{"messages":[{{"tool_calls":[{{"function":{{"arguments":{arguments}}}}}]}}]}}'
    assert refusal(body) == "Value looks like object, but can't find closing '}' symbol"


def test_a_custom_field_may_word_its_own_error() -> None:
    assert refusal('{"think":"deep"}') == "no such level"


def test_pictures_name_the_broken_byte() -> None:
    """partly N-26"""
    assert refusal('{"images":["data:image/png;base64,AAAA"]}') == "illegal base64 data at input byte 4"


def test_a_struct_without_defaults_is_a_programming_error() -> None:
    class Bad(msgspec.Struct):
        model: str

    class Odd(msgspec.Struct):
        model: set[str] = set()

    for type_ in (Bad, Odd):
        with pytest.raises(TypeError, match="model"):
            decode(b"{}", type_, "Request")


@pytest.mark.parametrize(
    ("body", "value"),
    [(b"null", None), (b"[1]rest", [1]), (b'{"b":1,"a":{"c":1,"c":2},"b":3}', {"a": {"c": 2}, "b": 3}), (b"-0", 0)],
)
def test_decode_value_gives_plain_objects(body: bytes, value: Any) -> None:
    assert decode_value(body) == value


NUMBERS = st.integers(-(1 << 70), 1 << 70) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.sampled_from([None, 1]), st.booleans())
def test_the_quick_and_the_exact_way_read_the_same(value: Any, indent: int | None, ascii_only: bool) -> None:
    body = json.dumps({"x": value}, indent=indent, ensure_ascii=ascii_only).encode()
    assert decode_value(body) == decode_value(body + b"\xff") == {"x": value}


@given(JSON, st.data())
def test_a_cut_document_is_a_bad_request(value: Any, data: st.DataObject) -> None:
    body = json.dumps({"x": value}, ensure_ascii=False).encode()
    cut = data.draw(st.integers(1, len(body) - 1))
    with pytest.raises(BadRequest, match=r"^unexpected EOF$"):
        decode_value(body[:cut])


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for each in (body, b'{"messages":[{"content":"' + body + b'"}]}', b'{"options":{"a":' + body + b"}}"):
        with contextlib.suppress(BadRequest):
            assert isinstance(read(each), ChatRequest)


# --- writing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": "<b>&\u2028\u2029é"}, r'{"a":"\u003cb\u003e\u0026\u2028\u2029é"}'),
        ({"<": [1, 1.5, None, True, ""]}, r'{"\u003c":[1,1.5,null,true,""]}'),
        ({"a": '"\\'}, r'{"a":"\"\\"}'),
        (Message("user", "x"), '{"role":"user","content":"x","images":[],"tool_calls":[]}'),
    ],
)
def test_replies_are_compact_and_escaped_as_in_go(value: Any, text: str) -> None:
    assert encode(value).decode() == text


@given(JSON)
def test_what_is_written_reads_back(value: Any) -> None:
    assert json.loads(encode({"x": value})) == {"x": value}
