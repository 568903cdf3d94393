"""modelfile-templates §1: how a Modelfile is read, what it amounts to, and how it is printed back."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero import modelfile
from llamero.errors import BadRequest
from llamero.messages import Message
from llamero.modelfile import Command, Modelfile, parameter_lines, parse, quote, show_modelfile

INSTRUCTION = (
    'command must be one of "from", "license", "template", "system", "adapter", "draft", "renderer", "parser", '
    '"parameter", "message", or "requires"'
)
ROLE = 'message role must be one of "system", "user", or "assistant"'


def read(text: str) -> Modelfile:
    """`FROM foo` is put in front where it is missing."""
    if not re.search(r"(?im)^\s*from ", text):
        text = f"FROM foo\n{text}"
    return parse(text.encode())


def refusal(text: str) -> str:
    with pytest.raises(BadRequest) as error:
        read(text).parameters()
    return str(error.value)


# --- words, values, quotes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        pytest.param("from foo\nsYsTeM hi", [("from", "foo"), ("system", "hi")], id="T-03"),
        pytest.param("  # note\nFROM foo # x\n", [("from", "foo # x")], id="T-04"),
        pytest.param(
            "FROM foo\n\u00a0SYSTEM hi\n \ufeff# note\n\u200bPARSER x",
            [("from", "foo"), ("system", "hi"), ("parser", "x")],
            id="what pasted text has before a word",
        ),
        pytest.param("FROM     a b   \n", [("from", "a b")], id="T-05 bare values are trimmed"),
        pytest.param('FROM "  a b "\n', [("from", "  a b ")], id="T-05 quoted ones are not"),
        ("FROM\tfoo\n\n \t\r\n\tSYSTEM hi\r", [("from", "foo"), ("system", "hi")]),
        ("FROM foo\n# SYSTEM x", [("from", "foo")]),
        ("FROM foo\nSYSTEM \nLICENSE x", [("from", "foo"), ("system", ""), ("license", "x")]),
        ("SYSTEM a\nFROM b\nSYSTEM c\nFROM d", [("system", "a"), ("from", "b"), ("system", "c"), ("from", "d")]),
    ],
)
def test_instructions(text: str, commands: list[tuple[str, str]]) -> None:
    assert [(each.name, each.value) for each in parse(text.encode()).commands] == commands


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param('SYSTEM """\none\ntwo\n"""', "\none\ntwo\n", id="T-06 lines"),
        pytest.param('SYSTEM """"""', "", id="T-06 empty block"),
        pytest.param('SYSTEM ""', "", id="T-06 empty string"),
        pytest.param('SYSTEM "a \\"b\\" c\nd"', 'a \\"b\\" c\nd', id="partly T-08"),
        pytest.param("SYSTEM 'q'", "'q'", id="T-09"),
        pytest.param('SYSTEM """a""" b\n"""\n', 'a""" b\n', id="T-10"),
        pytest.param('SYSTEM """"hi" there"""', '"hi" there', id="T-11"),
        ('SYSTEM "a" "b"', 'a" "b'),
        ('SYSTEM "a\nb" \nLICENSE x', "a\nb"),
        ('SYSTEM """  a  """  \t\n', "  a  "),
        ('SYSTEM """# no comment\n#\n"""', "# no comment\n#\n"),
        ('SYSTEM """\r\n\r\n"""', "\r\n\r\n"),
        ('SYSTEM """"""""', '""'),
        ('SYSTEM """""\na"""', '""\na'),
        ("SYSTEM\thi", "hi"),
        ("SYSTEM a\x00b\x1b\x7f\x85c\td", "abc\td"),
        ("SYSTEM \u00a0family: \U0001f468\u200d\U0001f469\u00a0x", "family: \U0001f468\u200d\U0001f469\u00a0x"),
    ],
)
def test_values(text: str, value: str) -> None:
    assert read(text).system == value


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"])
def test_a_byte_order_mark_chooses_the_encoding(encoding: str) -> None:
    """T-12"""
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")
    text = 'FROM foo\nSYSTEM """你好👋\n"""\n'
    assert parse(mark + text.encode(encoding)).commands == (Command("from", "foo"), Command("system", "你好👋\n"))


def test_windows_line_ends_stay_inside_quotes_only() -> None:
    """T-13"""
    read_ = read('SYSTEM """a\r\nb"""\r\nLICENSE x\r\n')
    assert (read_.system, read_.licenses) == ("a\r\nb", ("x",))


@pytest.mark.parametrize(("data", "value"), [(b"a\xffb", "a\ufffdb"), (b"\xf0\x9f\x98", "\ufffd\ufffd\ufffd")])
def test_invalid_utf8_becomes_replacement_characters(data: bytes, value: str) -> None:
    assert parse(b"FROM foo\nSYSTEM " + data).system == value


# --- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("FROM foo\nBAD x\n", f"(line 2): {INSTRUCTION}", id="T-01"),
        pytest.param('SYSTEM """x""\n', "unexpected EOF", id="T-07 an open block"),
        pytest.param('SYSTEM "\n', "unexpected EOF", id="T-07 an open string"),
        pytest.param("PARAMETER temperature\n", "unexpected EOF: temperature", id="T-14 no value"),
        pytest.param("PARAMETER top-k 1", "unexpected EOF: top", id="T-14 a bad character"),
        pytest.param("MESSAGE User hi", f"(line 2): {ROLE}", id="T-15 roles are lower case"),
        pytest.param("MESSAGE user: hi", "unexpected EOF: user", id="T-15 a bad character"),
        ("FROM foo\r\n\r\nSYSTEM\r\nx y", f"(line 3): {INSTRUCTION}"),  # the line of the word, \r\n counted once
        ("FROM foo\r\rBAD x", f"(line 3): {INSTRUCTION}"),
        ('FROM foo\nSYSTEM "a\nb"\nMESSAGE tool x', f"(line 4): {ROLE}"),
        ("FROM2 x\nFROM foo\n", f"(line 1): {INSTRUCTION}"),
        ("FROM foo\n- x\n", f"(line 2): {INSTRUCTION}"),
        ("FROM foo\nSYS\x00TEM x\n", f"(line 2): {INSTRUCTION}"),
        ("SYSTEM", "unexpected EOF"),
        ("BAD", "unexpected EOF"),
        ("PARAMETER top_k", "unexpected EOF"),
        ("MESSAGE user", "unexpected EOF"),
        ("PARAMETER \n", "unexpected EOF: "),
        ("SYSTEM '''\n'''", f"(line 3): {INSTRUCTION}"),
        ('SYSTEM """a""" tail', "unexpected EOF"),
        ('SYSTEM """""\n', "unexpected EOF"),
    ],
)
def test_errors(text: str, message: str) -> None:
    assert refusal(text) == message


@pytest.mark.parametrize("text", ["", "PARAMETER temperature 1\n", "# FROM foo\n"])
def test_a_modelfile_needs_a_from_line(text: str) -> None:
    """T-02"""
    with pytest.raises(BadRequest, match=r"^no FROM line$"):
        parse(text.encode())


# --- what it amounts to --------------------------------------------------------------------------------------------


def test_messages_keep_their_order_and_their_colons() -> None:
    """T-16"""
    read_ = read("MESSAGE user u: v\nMESSAGE   assistant  hi \nMESSAGE system \n")
    assert read_.messages == (Message("user", "u: v"), Message("assistant", "hi"), Message("system", ""))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        pytest.param('PARAMETER stop "### User: "', {"stop": ["### User: "]}, id="T-17 quoted"),
        pytest.param("PARAMETER stop ### User: ", {"stop": ["### User:"]}, id="T-17 bare"),
        pytest.param("PARAMETER stop a\nPARAMETER stop b", {"stop": ["a", "b"]}, id="partly T-18"),
        pytest.param("PARAMETER temperature 1\nPARAMETER temperature .5", {"temperature": 0.5}, id="partly T-18 last"),
        pytest.param("PARAMETER use_mmap T", {"use_mmap": True}, id="partly T-20"),
        ("PARAMETER  \t top_k  1", {"top_k": 1}),
        ('PARAMETER num_ctx "4096"', {"num_ctx": 4096}),
        ("PARAMETER seed -1\nPARAMETER top_p 1e-1", {"seed": -1, "top_p": 0.1}),
        ('PARAMETER stop ""', {"stop": [""]}),
    ],
)
def test_parameters(text: str, values: dict[str, Any]) -> None:
    assert read(text).parameters() == (values, [])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("foo 1", "unknown parameter 'foo'", id="T-19 unknown"),
        pytest.param("Temperature 1", "unknown parameter 'Temperature'", id="T-19 another case"),
        pytest.param("numa true", "unknown parameter 'numa'", id="T-19 retired"),
        pytest.param("temperature abc", "invalid float value [abc]", id="partly T-20 float"),
        pytest.param("top_k 1.5", "invalid int value [1.5]", id="partly T-20 int"),
        ("use_mmap maybe", "invalid bool value [maybe]"),
        ("system x", "unknown parameter 'system'"),
        ("template x", "unknown parameter 'template'"),
        ("grammar x", "unknown parameter 'grammar'"),
        ("temperature nan", "invalid float value [nan]"),
        ("temperature 1_0", "invalid float value [1_0]"),
        ("temperature ١", "invalid float value [١]"),
        ('temperature " 1"', "invalid float value [ 1]"),
        ("temperature 1e39", "invalid float value [1e39]"),
        ("top_k 9223372036854775808", "invalid int value [9223372036854775808]"),
        ("top_k \n", "invalid int value []"),
    ],
)
def test_bad_parameters(line: str, message: str) -> None:
    assert refusal(f"PARAMETER {line}") == message


def test_one_bad_value_is_an_error_even_if_a_good_one_follows() -> None:
    assert refusal("PARAMETER top_k x\nPARAMETER top_k 1") == "invalid int value [x]"


def test_values_of_each_type() -> None:
    """T-20: bad ones name the type and the value, and Go's short booleans are good ones."""
    assert refusal("PARAMETER temperature abc") == "invalid float value [abc]"
    assert refusal("PARAMETER top_k 1.5") == "invalid int value [1.5]"
    assert read("PARAMETER use_mmap T").parameters() == ({"use_mmap": True}, [])


def test_what_is_given_twice() -> None:
    """T-18: lists and licences add up, of everything else the last one counts."""
    read_ = read(
        "PARAMETER stop a\nPARAMETER temperature 1\nTEMPLATE t1\nSYSTEM s1\nLICENSE l1\n"
        "PARAMETER stop b\nPARAMETER temperature 2\nTEMPLATE t2\nSYSTEM s2\nLICENSE l2\n"
    )
    assert read_.parameters() == ({"stop": ["a", "b"], "temperature": 2.0}, [])
    assert (read_.template, read_.system, read_.licenses) == ("t2", "s2", ("l1", "l2"))


def test_deprecated_parameters_are_warned_about_and_dropped() -> None:
    """T-21"""
    assert read("PARAMETER mirostat 1\nPARAMETER top_k 2").parameters() == (
        {"top_k": 2},
        ["parameter mirostat is deprecated"],
    )


def test_the_other_instructions() -> None:
    read_ = read("FROM a\nFROM b\nADAPTER c\nADAPTER d\nDRAFT e\nRENDERER r\nPARSER p\nRENDERER q\n")
    assert (read_.froms, read_.adapters, read_.drafts) == (("a", "b"), ("c", "d"), ("e",))
    assert (read_.renderer, read_.parser, read_.requires, read_.template) == ("q", "p", "", "")


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("v0.14.0", "0.14.0"),
        ("0.14", "0.14"),
        ("1", "1"),
        ("0.14.0-rc.1+x-1", "0.14.0-rc.1+x-1"),
        ("1.0.0-0a", "1.0.0-0a"),
    ],
)
def test_a_required_version(line: str, version: str) -> None:
    """partly T-22"""
    assert read(f"REQUIRES {line}").requires == version


@pytest.mark.parametrize("line", ["x", "", "01.0.0", "1.0.0.0", "1.0-rc", "vv1", "1.0.0-01", "1.0.0-", "0.14.0 "])
def test_a_required_version_must_be_one(line: str) -> None:
    """T-22: together with `v0.14.0` above."""
    assert read("REQUIRES v0.14.0").requires == "0.14.0"
    with pytest.raises(BadRequest, match=re.escape("requires must be a valid semver (e.g. 0.14.0)")):
        assert read(f'REQUIRES "{line}"').requires
    with pytest.raises(BadRequest, match="must be a valid semver"):
        assert read(f'REQUIRES "{line}"\nREQUIRES 1').requires


# --- printing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("a b", "a b"),
        ("", ""),
        ('a "b"', 'a "b"'),
        ("'q'", "'q'"),
        ("a\nb", '"a\nb"'),
        (" a", '" a"'),
        ("a\t", '"a\t"'),
        ("a\u00a0", '"a\u00a0"'),
        ("a\rb", '"a\rb"'),
        ('"a"', '""""a""""'),
        ('a\n"b"', '"""a\n"b""""'),
    ],
)
def test_quote(value: str, written: str) -> None:
    assert quote(value) == written
    assert read(f"SYSTEM {written}").system == value


def test_printing_an_escaped_quote() -> None:
    """T-08: backslashes are text; the value is printed in three quotes."""
    read_ = read('SYSTEM "a \\"b\\" c\nd"')
    assert read_.system == 'a \\"b\\" c\nd'
    assert modelfile.format(read_) == 'FROM foo\nSYSTEM """a \\"b\\" c\nd"""\n'


def test_printing_keeps_the_order() -> None:
    text = 'SYSTEM \nFROM  a b\nPARAMETER stop "x "\nMESSAGE user hi\nlicense """MIT\n"""\n# gone\n'
    assert modelfile.format(parse(text.encode())) == (
        'SYSTEM \nFROM a b\nPARAMETER stop "x "\nMESSAGE user hi\nLICENSE "MIT\n"\n'
    )


def test_what_cannot_be_written_is_said_so() -> None:
    commands = (Command("from", "a\nSYSTEM b"), Command("system", 'a"""\nb'), Command("license", 'a"""'))
    text = modelfile.format(Modelfile(commands))
    assert text == (
        'FROM "a\nSYSTEM b"\n# SYSTEM cannot be written here: one of its lines ends with """\nLICENSE a"""\n'
    )
    assert parse(text.encode()).commands == (commands[0], commands[2])


VALUES = st.text(alphabet="\"'a #\\\n\r\t\u00a0é", max_size=12).map(
    lambda text: text if not re.search(r'"""\s*[\n\r]', text) else text.replace('"', "'")
)
COMMANDS = st.builds(Command, st.sampled_from(["system", "template", "license", "adapter"]), VALUES) | st.builds(
    Command, st.sampled_from(["parameter", "message"]), VALUES, st.sampled_from(["user", "system", "assistant"])
)


@given(st.lists(COMMANDS, max_size=5))
def test_what_is_printed_reads_back_and_prints_the_same(commands: list[Command]) -> None:
    """T-28"""
    file = Modelfile((Command("from", "foo"), *commands))
    text = modelfile.format(file)
    assert parse(text.encode()) == file
    assert modelfile.format(parse(text.encode())) == text


@given(st.text() | st.text(alphabet='FROMfrom x"#\n\r \t', max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read_ = parse(text.encode("utf-8", "surrogatepass"))
    except BadRequest:
        return
    assert read_.froms


# --- show ----------------------------------------------------------------------------------------------------------


def test_show_prints_every_part_in_order() -> None:
    text = show_modelfile(
        "m:latest",
        weights="/blobs/sha256-a",
        adapters=["/blobs/sha256-b"],
        drafts=["/blobs/sha256-c"],
        projectors=["/blobs/sha256-d"],
        template="{{ .Prompt }}",
        system="Be kind.\n",
        renderer="r",
        parser="p",
        parameters={"temperature": 0.7, "stop": ["<a>", " b"], "num_ctx": 1048576.0, "use_mmap": True, "top_p": 1e-05},
        licenses=["MIT", 'a\n"b"'],
        messages=[Message("user", "hi"), Message("assistant", "")],
    )
    assert text == (
        '# Modelfile generated by "ollama show"\n'
        "# To build a new Modelfile based on this, replace FROM with:\n"
        "# FROM m:latest\n"
        "\n"
        "FROM /blobs/sha256-a\n"
        "ADAPTER /blobs/sha256-b\n"
        "DRAFT /blobs/sha256-c\n"
        "FROM /blobs/sha256-d\n"
        "TEMPLATE {{ .Prompt }}\n"
        'SYSTEM "Be kind.\n"\n'
        "RENDERER r\n"
        "PARSER p\n"
        "PARAMETER num_ctx 1048576\n"
        "PARAMETER stop <a>\n"
        'PARAMETER stop " b"\n'
        "PARAMETER temperature 0.7\n"
        "PARAMETER top_p 1e-05\n"
        "PARAMETER use_mmap true\n"
        "LICENSE MIT\n"
        'LICENSE """a\n"b""""\n'
        "MESSAGE user hi\n"
        "MESSAGE assistant \n"
    )
    values, warnings = parse(text.encode()).parameters()
    assert values == {"num_ctx": 1048576, "stop": ["<a>", " b"], "temperature": 0.7, "top_p": 1e-05, "use_mmap": True}
    assert warnings == []


def test_show_leaves_out_what_the_model_has_not() -> None:
    head = '# Modelfile generated by "ollama show"\n'
    assert show_modelfile("m:latest", weights=None, template="", parameters={"stop": []}) == f"{head}FROM m:latest\n"


def test_show_lets_no_stored_value_become_an_instruction() -> None:
    text = show_modelfile(
        "m:latest",
        weights="/b",
        parameters={"x\nSYSTEM evil": 1, "top_k": None},
        messages=[Message("tool", "result"), Message("user\nSYSTEM evil", "x"), Message("user", "x\nSYSTEM evil")],
    )
    assert parse(text.encode()).commands == (Command("from", "/b"), Command("message", "x\nSYSTEM evil", "user"))
    assert '\n# MESSAGE "tool" cannot be written here: no such role in a Modelfile\n' in text


def test_parameter_lines() -> None:
    parameters = {
        "stop": ["</s>", 'a"\n\\\x00é\u200b\U000e0001'],
        "num_ctx": 1e6,
        "temperature": 0.5,
        "use_mmap": False,
        "seed": -1,
        "main_gpu": None,
    }
    assert parameter_lines(parameters).split("\n") == [
        "num_ctx                        1000000",
        "seed                           -1",
        'stop                           "</s>"',
        'stop                           "a\\"\\n\\\\\\x00é\\u200b\\U000e0001"',
        "temperature                    0.5",
        "use_mmap                       false",
    ]
    assert parameter_lines({}) == ""
