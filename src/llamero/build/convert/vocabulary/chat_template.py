"""The chat templates of a checkpoint, as the engine finds them in a GGUF (store-registry §6.8)."""

from __future__ import annotations

import re
from typing import Any

from ....errors import BadRequest
from ..checkpoint import Checkpoint
from ..family import Metadata, Value

MAX_TEMPLATE_CHARACTERS = 1024 * 1024
"""Published ones have up to 30,000."""

MAX_TEMPLATES = 32
"""Published models have up to 4."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KEY = "tokenizer.chat_template"


def chat_template(checkpoint: Checkpoint) -> Metadata:
    """The template called `default` as the model's own, others beside it under their names.

    A file of its own wins over the one in tokenizer_config.json, as in the publishers' own library.
    """
    stated: Any = checkpoint.text("chat_template.jinja") or None
    for file in ("tokenizer_config.json", "chat_template.json"):
        if stated is None:
            stated = checkpoint.object(file).get("chat_template")
    templates = _by_name(stated)
    others = sorted(templates.keys() - {"default"})
    found: dict[str, Value] = {f"{_KEY}.{name}": templates[name] for name in others}
    if others:
        found[f"{_KEY}s"] = others
    return found | ({_KEY: templates["default"]} if "default" in templates else {})


def _by_name(stated: Any) -> dict[str, str]:
    if stated is None:
        return {}
    entries = [{"name": "default", "template": stated}] if isinstance(stated, str) else stated
    if not isinstance(entries, list) or len(entries) > MAX_TEMPLATES:
        raise BadRequest(f"chat_template must be a text, or a list of up to {MAX_TEMPLATES} templates")
    found: dict[str, str] = {}
    for entry in entries:
        match entry:
            case {"name": str(name), "template": str(text)} if _NAME.fullmatch(name) and name not in found:
                found[name] = _checked(text)
            case _:
                raise BadRequest("chat_template must list templates with a name of letters and digits, each once")
    return found


def _checked(text: str) -> str:
    if len(text) > MAX_TEMPLATE_CHARACTERS:
        raise BadRequest(f"a chat template has {len(text)} characters, more than {MAX_TEMPLATE_CHARACTERS}")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise BadRequest("a chat template is not valid Unicode") from exc
    return text
