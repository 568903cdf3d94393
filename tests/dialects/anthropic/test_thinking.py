"""compat-api §9.5: how much a model shall think, and what of it is shown."""

from __future__ import annotations

from typing import Any

import pytest

from llamero.dialects.anthropic.thinking import Display, read_thinking
from llamero.dialects.fields import Fields
from llamero.errors import InvalidField
from llamero.messages import Think

ENABLED = {"type": "enabled", "budget_tokens": 1024}
ADAPTIVE = {"type": "adaptive"}


@pytest.mark.parametrize(
    ("thinking", "effort", "think", "display"),
    [
        (None, None, False, "hidden"),
        (ENABLED, None, True, "shown"),
        (ENABLED, "low", "low", "shown"),
        ({"type": "disabled"}, None, False, "hidden"),
        ({"type": "disabled"}, "high", False, "hidden"),
        (ADAPTIVE, None, None, "shown"),
        (ADAPTIVE, "medium", "medium", "shown"),
        ({"type": "between_tools"}, "max", "max", "shown"),
        ({"type": "later"}, "high", "high", "shown"),
        ({}, None, None, "shown"),
        (None, "high", "high", "shown"),
        (None, " XHigh ", "high", "shown"),
        (None, "", False, "hidden"),
        (None, "utmost", None, "shown"),
        ({**ENABLED, "display": "omitted"}, None, True, "omitted"),
        ({**ENABLED, "display": "summarized"}, None, True, "shown"),
        ({"type": "disabled", "display": "omitted"}, None, False, "hidden"),
    ],
)
def test_thinking_and_effort(thinking: Any, effort: Any, think: Think, display: Display) -> None:
    """partly C-94, partly C-95"""
    body = Fields({"thinking": thinking, "output_config": None if effort is None else {"effort": effort}})
    read = read_thinking(body, None, by_default=False)
    assert (read.think, read.display) == (think, display)


@pytest.mark.parametrize(
    ("thinking", "think"), [(None, None), (ENABLED, True), ({"type": "disabled"}, False), (ADAPTIVE, None)]
)
def test_with_thinking_by_default_only_a_client_that_says_nothing_is_answered_otherwise(
    thinking: Any, think: Think
) -> None:
    assert read_thinking(Fields({"thinking": thinking}), None, by_default=True).think == think


@pytest.mark.parametrize(
    ("thinking", "extension", "think"),
    [(None, True, True), (None, "low", "low"), (None, False, False), (ADAPTIVE, "low", "low"), (ENABLED, False, True)],
)
def test_the_native_field_counts_where_anthropics_say_nothing(thinking: Any, extension: Think, think: Think) -> None:
    assert read_thinking(Fields({"thinking": thinking}), extension, by_default=False).think == think


@pytest.mark.parametrize(("tokens", "limit"), [(None, None), (0, 0), (5, 5), (10**12, 2**31 - 1)])
def test_a_budget_is_taken_as_it_is(tokens: int | None, limit: int | None) -> None:
    """Anthropic refuses less than 1,024; here contexts are smaller."""
    body = Fields({"thinking": {"type": "enabled", "budget_tokens": tokens}})
    assert read_thinking(body, None, by_default=False).max_tokens == limit


def test_what_is_not_honoured_is_named() -> None:
    body = Fields({"thinking": {"type": "later", "budget_tokens": 5}, "output_config": {"effort": "utmost"}})
    assert read_thinking(body, None, by_default=False).warnings == (
        "output_config.effort 'utmost' is unknown and has no effect",
        "thinking of type 'later' is unknown and taken as 'adaptive'",
    )
    assert read_thinking(Fields({"thinking": ADAPTIVE}), None, by_default=False).warnings == ()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"thinking": True}, "thinking"),
        ({"thinking": {"type": 1}}, "thinking.type"),
        ({"thinking": {"type": "enabled", "budget_tokens": "1"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": -1}}, "thinking.budget_tokens"),
        ({"output_config": {"effort": 3}}, "output_config.effort"),
    ],
)
def test_wrong_types_are_refused(fields: Any, param: str) -> None:
    with pytest.raises(InvalidField) as caught:
        read_thinking(Fields(fields), None, by_default=False)
    assert caught.value.param == param
