"""What the examples of the official Python client do, told again: tools, thinking, structured output, pictures.

Every reply goes through the client's own pydantic models, and what it makes of them goes back as it is. Where it
matters who renders the prompts and reads the answers, both ways are gone. Annotations are no texts in this module: the
client makes tools of them.
"""

import asyncio
import base64
import datetime
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

import ollama
import pytest
import pytest_asyncio
from ollama import AsyncClient, ChatResponse, Client, Message, Options
from PIL import Image
from pydantic import BaseModel, Field

from tests.clients.speakers import WAYS, Way, call, make_speaker, thought
from tests.parrot import write_parrot
from tests.running import Server
from tests.server.tiny_models import make

M = "smollm2:135m"
CALM = {"temperature": 0}
SUM = [{"role": "user", "content": "What is three plus one, and fifty-two minus eleven?"}]

MakeSpeaker = Callable[..., str]


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    client = Client(server.url)
    yield client
    client._client.close()  # the library itself offers no way to close it


@pytest_asyncio.fixture
async def waiting(server: Server) -> AsyncIterator[AsyncClient]:
    client = AsyncClient(server.url)
    yield client
    await client._client.aclose()


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    return request.param


@pytest.fixture(scope="module")
def speaker(server: Server, way: Way, tmp_path_factory: pytest.TempPathFactory) -> MakeSpeaker:
    folder = tmp_path_factory.mktemp("speakers")

    return partial(make_speaker, server, folder, way)


# --- tools -----------------------------------------------------------------------------------------------------------


def add_two_numbers(a: int, b: int) -> int:
    """
    Add two numbers

    Args:
      a (int): The first number
      b (int): The second number

    Returns:
      int: The sum of the two numbers
    """
    return int(a) + int(b)


def subtract_two_numbers(a: int, b: int) -> int:
    return int(a) - int(b)


SUBTRACT = {
    "type": "function",
    "function": {
        "name": "subtract_two_numbers",
        "description": "Subtract two numbers",
        "parameters": {
            "type": "object",
            "required": ["a", "b"],
            "properties": {
                "a": {"type": "integer", "description": "The first number"},
                "b": {"type": "integer", "description": "The second number"},
            },
        },
    },
}
KNOWN = {"add_two_numbers": add_two_numbers, "subtract_two_numbers": subtract_two_numbers}
SUM_THOUGHT = "Two sums."
RESULT_THOUGHT = "Four and forty-one."
RESULT = "They are 4 and 41."


@pytest.fixture(scope="module")
def clerk(speaker: MakeSpeaker) -> str:
    """Thinks, calls two tools at once, thinks about what they gave, and answers."""
    calls = call("add_two_numbers", a=3, b=1) + "\n" + call("subtract_two_numbers", a=52, b=11)
    return speaker("clerk", thought(SUM_THOUGHT, calls), after_2=thought(RESULT_THOUGHT, RESULT))


def results(calls: Sequence[Message.ToolCall]) -> list[dict[str, str]]:
    """What the called functions give, as messages for the model."""
    return [
        {
            "role": "tool",
            "content": str(KNOWN[call.function.name](**call.function.arguments)),
            "tool_name": call.function.name,
        }
        for call in calls
    ]


def as_pairs(calls: Sequence[Message.ToolCall] | None) -> list[tuple[str, Mapping[str, Any]]]:
    return [(call.function.name, call.function.arguments) for call in calls or ()]


TWO_CALLS = [("add_two_numbers", {"a": 3, "b": 1}), ("subtract_two_numbers", {"a": 52, "b": 11})]


def test_tools_are_called_and_their_results_answered(client: Client, clerk: str) -> None:
    """A Python function and a schema are tools; the client's own message goes back, then a result for each call."""
    messages: list[Any] = [*SUM]
    response = client.chat(clerk, messages, tools=[add_two_numbers, SUBTRACT])
    assert as_pairs(response.message.tool_calls) == TWO_CALLS
    assert response.done_reason == "stop"
    messages += [response.message, *results(response.message.tool_calls or ())]
    assert [message["content"] for message in messages[2:]] == ["4", "41"]
    final = client.chat(clerk, messages)
    assert (final.message.content, final.message.tool_calls) == (RESULT, None)


async def test_tools_with_the_asynchronous_client(waiting: AsyncClient, clerk: str) -> None:
    messages: list[Any] = [*SUM]
    response = await waiting.chat(clerk, messages, tools=[add_two_numbers, SUBTRACT])
    messages += [response.message, *results(response.message.tool_calls or ())]
    parts = [part async for part in await waiting.chat(clerk, messages, stream=True)]
    assert "".join(part.message.content or "" for part in parts) == RESULT


def test_streamed_calls_and_thinking_go_back_part_by_part(client: Client, clerk: str) -> None:
    """Each part with a call is appended with its result; the second stream still offers the tools."""
    messages: list[Any] = [*SUM]
    thinking, called = "", []
    for part in client.chat(clerk, messages, tools=[add_two_numbers, SUBTRACT], think=True, stream=True):
        thinking += part.message.thinking or ""
        assert part.message.content == ""
        for made in part.message.tool_calls or ():
            called.append(made)
            messages += [part.message, *results([made])]
    assert (thinking.strip(), as_pairs(called)) == (SUM_THOUGHT, TWO_CALLS)

    parts = list(client.chat(clerk, messages, tools=[add_two_numbers, SUBTRACT], think=True, stream=True))
    assert "".join(part.message.thinking or "" for part in parts).strip() == RESULT_THOUGHT
    assert "".join(part.message.content or "" for part in parts) == RESULT
    assert not any(part.message.tool_calls for part in parts)
    assert [part.done_reason for part in parts if part.done] == ["stop"]


LONDON = call("get_weather", city="London")
TORONTO = call("get_weather_conditions", city="Toronto")
WEATHER = "London has 9°C, Toronto has snow."


def get_weather(city: str) -> str:
    """Get the current temperature for a city"""
    return f"The temperature in {city} is 9°C"


def get_weather_conditions(city: str) -> str:
    """Get the current weather conditions for a city"""
    return "snowy"


@pytest.fixture(scope="module")
def weatherman(speaker: MakeSpeaker) -> str:
    """Calls one tool after the other, thinking in between."""
    return speaker(
        "weatherman",
        thought("London is first.", LONDON),
        after_1=thought("Toronto is next.", TORONTO),
        after_2=thought("Done.", WEATHER),
    )


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
def test_tools_are_called_until_there_is_an_answer(client: Client, weatherman: str, is_streamed: bool) -> None:
    """The loop of the gpt-oss examples: thinking, text and calls of an answer go back together."""
    tools = {"get_weather": get_weather, "get_weather_conditions": get_weather_conditions}
    messages: list[Any] = [{"role": "user", "content": "What is the weather like in London, and in Toronto?"}]
    thoughts = []
    while True:
        answer = ask(client, weatherman, messages, list(tools.values()), is_streamed=is_streamed)
        messages.append(answer)
        thoughts.append((answer.get("thinking") or "").strip())
        calls = answer.get("tool_calls") or ()
        for made in calls:
            content = tools[made.function.name](**made.function.arguments)
            messages.append({"role": "tool", "content": content, "tool_name": made.function.name})
        if not calls:
            break
    assert thoughts == ["London is first.", "Toronto is next.", "Done."]
    assert messages[-1]["content"] == WEATHER
    assert len(messages) == 6


def ask(client: Client, model: str, messages: list[Any], tools: list[Any], *, is_streamed: bool) -> Any:
    """A message object of the client's, or its parts put together in a dictionary, as the examples do."""
    if not is_streamed:
        return client.chat(model, messages, tools=tools).message
    thinking, content, calls = "", "", []
    for part in client.chat(model, messages, tools=tools, stream=True):
        thinking += part.message.thinking or ""
        content += part.message.content or ""
        calls.extend(part.message.tool_calls or ())
    return {"role": "assistant", "thinking": thinking, "content": content, "tool_calls": calls}


def plan(
    where: Union[str, int],  # noqa: UP007 the client's users write both
    when: Optional[str],  # noqa: UP045
    guests: list[str],
    size: Literal["small", "large"],
    notes: dict[str, int],
    budget: float | None,
    vegan: bool,
) -> str:
    """
    Plan a party

    Args:
      where: A place or its number
      guests (list): Who comes
    """
    return ""


def ping() -> str:
    return "pong"


def test_functions_of_every_kind_are_tools(client: Client, speaker: MakeSpeaker) -> None:
    """The client writes the type of a union as `string, integer`, and says nothing of items."""
    given = {"where": 7, "guests": ["Ann"], "size": "small", "notes": {}, "vegan": True}
    model = speaker("host", call("plan", **given) + "\n" + call("ping"))
    response = client.chat(model, SUM, tools=[plan, ping], options=CALM)
    assert [name for name, _ in as_pairs(response.message.tool_calls)] == ["plan", "ping"]
    assert as_pairs(response.message.tool_calls)[0][1] == given


def test_a_call_is_not_read_where_no_tools_are_given(client: Client, clerk: str) -> None:
    response = client.chat(clerk, SUM, think=True)
    assert response.message.tool_calls is None
    assert "add_two_numbers" in (response.message.content or "")


# --- thinking --------------------------------------------------------------------------------------------------------

TEN = [{"role": "user", "content": "What is 10 + 23?"}]


@pytest.fixture(scope="module")
def thinker(speaker: MakeSpeaker) -> str:
    return speaker("thinker", thought("Ten and twenty are thirty.", "It is **33**."))


def test_thinking_in_a_chat(client: Client, thinker: str) -> None:
    response = client.chat(thinker, TEN, think=True)
    assert (response.message.thinking or "").strip() == "Ten and twenty are thirty."
    assert response.message.content == "It is **33**."
    quiet = client.chat(thinker, TEN, think=False)
    assert quiet.message.thinking is None


def test_thinking_of_a_generation(client: Client, thinker: str) -> None:
    response = client.generate(thinker, "why is the sky blue", think=True)
    assert (response.thinking or "").strip() == "Ten and twenty are thirty."
    assert response.response == "It is **33**."
    parts = list(client.generate(thinker, "why is the sky blue", think=True, stream=True))
    assert "".join(part.thinking or "" for part in parts) == response.thinking
    assert "".join(part.response or "" for part in parts) == response.response


async def test_thinking_comes_first_in_a_stream(waiting: AsyncClient, thinker: str) -> None:
    parts = [part async for part in await waiting.chat(thinker, TEN, think=True, stream=True)]
    kinds = ["thinking" if part.message.thinking else "text" for part in parts]
    assert kinds == sorted(kinds, reverse=True)
    assert all(part.message.content == "" for part in parts if part.message.thinking)
    assert {type(part) for part in parts} == {ChatResponse}


def test_the_levels_of_thinking_reach_the_prompt(client: Client, speaker: MakeSpeaker) -> None:
    model = speaker(
        "leveller",
        "unasked",
        at_low=thought("Hm.", "33"),
        at_medium=thought("Well.", "3 3"),
        at_high=thought("Oh!", "= 33"),
    )
    for level, expected in (("low", "Hm."), ("medium", "Well."), ("high", "Oh!"), (True, "Well.")):
        response = client.chat(model, TEN, think=level)
        assert (response.message.thinking or "").strip() == expected
        assert (response.message.content or "").endswith("3")


def test_thinking_is_kept_in_a_conversation(client: Client, thinker: str) -> None:
    messages: list[Any] = [*TEN, client.chat(thinker, TEN, think=True).message, {"role": "user", "content": "Sure?"}]
    assert client.chat(thinker, messages, think=True).message.content == "It is **33**."
    assert client.chat(thinker, messages, think=True).prompt_eval_count


# --- structured output -----------------------------------------------------------------------------------------------


class FriendInfo(BaseModel):
    name: str
    age: int
    is_available: bool


class FriendList(BaseModel):
    friends: list[FriendInfo]


FRIENDS = [
    {
        "role": "user",
        "content": "I have two friends. The first is Ollama 22 years old busy saving the world, and the second is "
        "Alonso 23 years old and wants to hang out. Return a list of friends in JSON format",
    }
]


def test_structured_output(client: Client) -> None:
    response = client.chat(M, FRIENDS, format=FriendList.model_json_schema(), options=CALM)
    assert FriendList.model_validate_json(response.message.content or "").friends


async def test_structured_output_with_the_asynchronous_client(waiting: AsyncClient) -> None:
    response = await waiting.chat(M, FRIENDS, format=FriendList.model_json_schema(), options=CALM)
    assert FriendList.model_validate_json(response.message.content or "").friends


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Wheel(BaseModel):
    kind: Literal["wheel"]
    inches: Annotated[int, Field(ge=10, le=30)]


class Sail(BaseModel):
    kind: Literal["sail"]
    area: float


class Vehicle(BaseModel):
    """What pydantic writes with $defs, enum, const, anyOf with null, oneOf, formats, bounds and defaults."""

    name: Annotated[str, Field(max_length=12)]
    colour: Colour
    built: datetime.date
    owner: Annotated[str, Field(max_length=12)] | None = None
    parts: Annotated[list[Annotated[Wheel | Sail, Field(discriminator="kind")]], Field(min_length=1, max_length=2)]
    seats: dict[Literal["front", "back"], int] = Field(default_factory=dict, max_length=2)
    size: tuple[int, int]


@pytest.mark.heavy
def test_structured_output_of_all_that_pydantic_writes(client: Client) -> None:
    asked = [{"role": "user", "content": "Describe a small red car with two wheels as JSON."}]
    parts = list(client.chat(M, asked, format=Vehicle.model_json_schema(), options=CALM, stream=True))
    assert Vehicle.model_validate_json("".join(part.message.content or "" for part in parts)).parts
    assert parts[-1].done_reason == "stop"


class Tree(BaseModel):
    name: str
    below: list["Tree"]


def test_structured_output_of_a_model_that_thinks(client: Client, speaker: MakeSpeaker) -> None:
    """The schema, which refers to itself, holds for the answer and not for the thinking."""
    answer = '{"name": "oak", "below": [{"name": "bough", "below": []}]}'
    model = speaker("gardener", thought("Which one?", answer))
    response = client.chat(model, TEN, format=Tree.model_json_schema(), options=CALM, think=True)
    assert (response.message.thinking or "").strip() == "Which one?"
    tree = Tree.model_validate_json(response.message.content or "")
    assert [below.name for below in tree.below] == ["bough"]


class Seen(BaseModel):
    name: Annotated[str, Field(max_length=20)]
    confidence: float
    attributes: Annotated[str, Field(max_length=20)]


class ImageDescription(BaseModel):
    summary: Annotated[str, Field(max_length=20)]
    objects: Annotated[list[Seen], Field(max_length=2)]
    scene: Annotated[str, Field(max_length=20)]
    colors: Annotated[list[Annotated[str, Field(max_length=9)]], Field(max_length=3)]
    time_of_day: Literal["Morning", "Afternoon", "Evening", "Night"]
    setting: Literal["Indoor", "Outdoor", "Unknown"]
    text_content: Annotated[str, Field(max_length=20)] | None = None


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "sunset.png"
    Image.radial_gradient("L").resize((64, 48)).save(path)
    return path


def test_structured_output_about_a_picture(client: Client, tiny_vision: str, picture: Path) -> None:
    """The model sees and knows no word: what it says is noise, but in the form that was asked for."""
    message = {"role": "user", "content": "Analyze this image and return a JSON description.", "images": [picture]}
    response = client.chat(
        tiny_vision, [message], format=ImageDescription.model_json_schema(), options={"temperature": 0}
    )
    ImageDescription.model_validate_json(response.message.content or "")


def test_pictures_in_every_form_that_the_client_takes(client: Client, tiny_vision: str, picture: Path) -> None:
    content = picture.read_bytes()
    forms = [str(picture), picture, content, base64.b64encode(content).decode()]
    options = {"num_predict": 4, "temperature": 0}
    counted = set()
    for form in forms:
        message = {"role": "user", "content": "What is in this image? Be concise.", "images": [form]}
        counted.add(client.chat(tiny_vision, [message], options=options).prompt_eval_count)
    assert len(counted) == 1
    parts = list(client.generate(tiny_vision, "explain this comic:", images=[content], options=options, stream=True))
    assert parts[-1].done_reason == "length"


# --- text ------------------------------------------------------------------------------------------------------------


def test_a_generation_in_parts(client: Client) -> None:
    said = ""
    for part in client.generate(M, "Why is the sky blue?", stream=True, options={"num_predict": 12}):
        said += part["response"]
    assert said
    assert part["eval_count"] == 12
    assert (part.total_duration or 0) >= (part.eval_duration or 0) > 0


def test_a_chat_with_history(client: Client) -> None:
    messages = [
        {"role": "user", "content": "Why is the sky blue?"},
        {"role": "assistant", "content": "Because of the way the Earth's atmosphere scatters sunlight."},
    ]
    counts = []
    for asked in ("Is it so on Mars?", "And at night?"):
        response = client.chat(M, [*messages, {"role": "user", "content": asked}], options={"num_predict": 8})
        messages += [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": response.message.content or ""},
        ]
        counts.append(response.prompt_eval_count or 0)
    assert counts[0] < counts[1]


def test_what_is_missing_in_the_middle_is_filled_in(server: Server, client: Client, tmp_path: Path) -> None:
    path = write_parrot(tmp_path / "coder.gguf", 'Only ASCII. """\n    result = s<EOT> and more')
    coder = make(
        server, "coder", [path], template="{{ if .Suffix }}<PRE> {{ .Prompt }} <SUF>{{ .Suffix }} <MID>{{ end }}"
    )
    response = client.generate(
        coder,
        'def remove_non_ascii(s: str) -> str:\n    """ ',
        suffix="\n    return result\n",
        options={"num_predict": 128, "temperature": 0, "top_p": 0.9, "stop": ["<EOT>"]},
    )
    assert response["response"] == 'Only ASCII. """\n    result = s'
    assert response.done_reason == "stop"


def test_log_probabilities(client: Client) -> None:
    options = {"num_predict": 5, "temperature": 0}
    chat = client.chat(
        M, [{"role": "user", "content": "hi! be concise."}], logprobs=True, top_logprobs=3, options=options
    )
    text = client.generate(M, "hi! be concise.", logprobs=True, top_logprobs=3, options=options)
    for response in (chat, text):
        entries = response.get("logprobs", [])
        assert len(entries) == 5
        for entry in entries:
            others = entry.get("top_logprobs", [])
            assert [other["token"] for other in others].count(entry["token"]) == 1
            assert entry["logprob"] == max(other["logprob"] for other in others) <= 0
    assert "".join(entry.token for entry in chat.logprobs or ()) == chat.message.content
    streamed = list(client.chat(M, TEN, logprobs=True, options=options, stream=True))
    assert sum(len(part.logprobs or ()) for part in streamed) == 5


def test_log_probabilities_of_thinking_and_calls(client: Client, clerk: str) -> None:
    """Each token has its entry, also where its text is held back until a tag or a call is complete."""
    parts = list(client.chat(clerk, SUM, tools=[add_two_numbers, SUBTRACT], logprobs=True, stream=True, options=CALM))
    told = "".join(entry.token for part in parts for entry in part.logprobs or ())
    assert SUM_THOUGHT in told
    assert as_pairs([call for part in parts for call in part.message.tool_calls or ()]) == TWO_CALLS


def test_options_and_a_reply_that_warns(client: Client) -> None:
    """The client's own options include retired ones, of which the reply warns in a field that it does not know."""
    options = Options(num_predict=3, temperature=0.0, mirostat=0, penalize_newline=True, num_thread=2, stop=["\n\n\n"])
    assert client.generate(M, "The sky is", options=options).eval_count == 3
    *_, last = client.chat(M, TEN, options=options, stream=True)
    assert last.done_reason == "length"


# --- models ----------------------------------------------------------------------------------------------------------


def test_create_show_and_ps(client: Client, clerk: str) -> None:
    created = client.create(
        "my-assistant",
        from_=clerk,
        system="You are mario from Super Mario Bros.",
        parameters={"temperature": 0.5, "stop": ["Luigi"]},
        license=["MIT", "and more"],
        messages=[Message(role="user", content="Hi"), {"role": "assistant", "content": "It's me."}],
    )
    assert created.status == "success"
    shown = client.show("my-assistant")
    assert {"completion", "tools", "thinking"} == set(shown.capabilities or ())
    assert "tool_call" in (shown.template or "")
    assert "Super Mario" in (shown.modelfile or "")
    assert shown.modified_at is not None
    assert shown.details is not None
    assert shown.details.format == "gguf"
    client.chat("my-assistant", SUM, options={"num_predict": 1})
    running = client.ps().models
    assert all(model.model and model.digest and model.size and model.expires_at for model in running)
    assert clerk in {(model.model or "").removesuffix(":latest") for model in running}  # the weights are its own
    client.delete("my-assistant")


def test_errors_in_the_examples_words(client: Client, clerk: str) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat(M, TEN, think=True)
    assert (caught.value.status_code, caught.value.error) == (400, f'"{M}" does not support thinking')
    with pytest.raises(ollama.ResponseError) as caught:
        list(client.chat(M, TEN, tools=[add_two_numbers], stream=True))
    assert "does not support tools" in caught.value.error


async def test_many_at_once(waiting: AsyncClient, clerk: str) -> None:
    asked = [waiting.chat(clerk, SUM, tools=[add_two_numbers, SUBTRACT]) for _ in range(4)]
    assert [as_pairs(response.message.tool_calls) for response in await asyncio.gather(*asked)] == [TWO_CALLS] * 4
