"""Chat templates that attack: what stands in a model's file is rendered where there is no Python. security §5."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import Reply, Server, running
from tests.server.go_models import Models

CANARY = "X-CANARY"

ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''.__class__.__base__.__subclasses__()[104].__init__.__globals__['sys'].modules['os'].system('@') }}",
    "{{ self.__init__.__globals__.__builtins__.__import__('os').popen('@').read() }}",
    "{{ self._TemplateReference__context.cycler.__init__.__globals__.os.popen('@').read() }}",
    "{{ cycler.__init__.__globals__.os.popen('@').read() }}",
    "{{ joiner.__init__.__globals__.os.popen('@').read() }}",
    "{{ namespace.__init__.__globals__.os.popen('@').read() }}",
    "{{ lipsum.__globals__['os'].popen('@').read() }}",
    "{{ lipsum|attr('__globals__')|attr('__getitem__')('os')|attr('popen')('@') }}",
    "{{ config.__class__.__init__.__globals__['os'].popen('@').read() }}",
    "{{ request.application.__globals__.__builtins__.__import__('os').system('@') }}",
    "{{ url_for.__globals__['current_app'].config }}",
    "{{ get_flashed_messages.__globals__.__builtins__.open('@', 'w').write('x') }}",
    "{{ ''|attr('format')|attr('__self__') }}{{ '{0.__class__}'.format('') }}",
    "{{ '{a.__class__.__init__.__globals__}'.format_map({'a': messages}) }}",
    "{% set f = 'x'.format %}{{ f.__globals__ }}{{ ('%s' % ''.__class__) }}",
    "{% for c in [].__class__.__base__.__subclasses__() %}{{ c('@') }}{% endfor %}",
    "{{ messages|map('__class__')|list }}{{ messages|map(attribute='__class__.__init__')|list }}",
    "{% import 'os' as os %}{{ os.system('@') }}{% include '/etc/passwd' %}{% extends '@' %}",
    "{{ range.__class__('x', (), {}) }}{{ dict.fromkeys('a').__class__ }}{{ raise_exception.__globals__ }}",
    "{{ _.__class__ }}{{ __import__('os').system('@') }}{{ eval('@') }}{{ exec('@') }}{{ open('@', 'w') }}",
    '${@}#{@}<%= `@` %>{{ `@` }}{{=@}}{{ call .System "@" }}{{ template "@" . }}{{ define "x" }}{{ end }}',
]
"""`@` becomes a command that makes the canary."""

SIGNS_OF_PYTHON = ("<class", "<built-in", "<function", "<module", "<bound method", "object at 0x", "uid=", "root:x:0")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hostile")
    with running(folder, folder / "models", OLLAMA_CONTEXT_LENGTH="512") as started:
        yield started


@pytest.fixture
def models(server: Server, tmp_path: Path) -> Models:
    return Models(server, tmp_path)


def chat(server: Server, model: str, **more: object) -> Reply:
    return server.post(
        "/api/chat", {"model": model, "messages": [{"role": "user", "content": "Hi"}], "stream": False, **more}
    )


def check_harmless(reply: Reply, server: Server) -> None:
    """An error or an answer, and neither tells anything of a program (X-73)."""
    assert reply.status in (200, 400, 500)
    text = reply.body.decode()
    assert not any(sign in text for sign in SIGNS_OF_PYTHON)
    assert not any(word in text for word in ("Traceback", ".py", ".gguf", "/tmp", "/blobs", str(server.home)))


@pytest.mark.heavy
@pytest.mark.engine
def test_x71_no_template_of_a_file_gets_out(models: Models, tmp_path: Path) -> None:
    """X-71, X-72, X-73: each payload inside a model's file, rendered, and used to answer; and as a Go TEMPLATE."""
    canary = tmp_path / CANARY
    for payload in ESCAPES:
        text = payload.replace("@", f"touch {canary}")
        model = models.saying("Hello there.", "", jinja=text)
        for reply in (chat(models.server, model, _debug_render_only=True), chat(models.server, model)):
            check_harmless(reply, models.server)
        for form in ({"template": text}, {"from": model, "template": text}):
            made = models.server.post("/api/create", {"model": "go", "from": model, "stream": False, **form})
            check_harmless(made, models.server)
        if made.status == 200:
            check_harmless(chat(models.server, "go"), models.server)
        models.server.unload_all()
    assert not canary.exists()
    assert not list(models.server.home.rglob(CANARY))


@pytest.mark.engine
@pytest.mark.parametrize("payload", [ESCAPES[8]])
def test_escapes_are_errors_or_text(models: Models, tmp_path: Path, payload: str) -> None:
    """Partly X-71: one of them, quickly."""
    canary = tmp_path / CANARY
    model = models.saying("Hello there.", "", jinja=payload.replace("@", f"touch {canary}"))
    check_harmless(chat(models.server, model, _debug_render_only=True), models.server)
    check_harmless(chat(models.server, model), models.server)
    assert not canary.exists()


BOMB = (
    "{% for message in messages %}{{ message.content }}{% endfor %}"
    "{% for a in range(100000) %}{% for b in range(100000) %}{{ a }}{% endfor %}{% endfor %}"
)
FOUND_S = 3.0
"""After so long its engine is killed; what comes then is another load."""


@pytest.mark.heavy
@pytest.mark.engine
def test_x74_a_template_that_never_ends_is_found_at_load(models: Models) -> None:
    """X-74: who asks other models does not notice. The spare template takes its place, as that of any refused one."""
    server = models.server
    bomb = models.saying("Hello there.", "", jinja=BOMB)
    sound = models.saying("Hello there.", "", jinja="{% for m in messages %}{{ m.content }}{% endfor %}")
    assert chat(server, sound).status == 200
    replies: list[Reply] = []
    asking = threading.Thread(target=lambda: replies.append(chat(server, bomb)))
    started = time.monotonic()
    asking.start()
    waits = []
    while asking.is_alive():
        asked = time.monotonic()
        assert chat(server, sound).json()["message"]["content"] == "Hello there."
        waits.append(time.monotonic() - asked)
    assert time.monotonic() - started < FOUND_S + 1
    assert max(waits) < 1
    (reply,) = replies
    assert (reply.status, reply.json()["message"]["content"]) == (200, "Hello there.")
    assert "ChatML" in reply.json()["warnings"][0]
    assert "the chat template took longer than 2 s" in server.log.read_text()
    assert len(server.engines()) == 2, "the one that was at work on it is gone"
    server.unload_all()
    started = time.monotonic()
    assert chat(server, bomb).status == 200
    assert time.monotonic() - started < FOUND_S - 1, "it is not tried again"
