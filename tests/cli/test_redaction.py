"""Secrets in a line of a log: what is taken out, and what stays readable (security §9.5)."""

from __future__ import annotations

import time

import pytest

from llamero.cli.redaction import REDACTED, Redaction, secrets_of

TAKEN_OUT = [
    ("pull https://user:pw@host/m failed", f"pull https://{REDACTED}@host/m failed"),
    ("https://user:p@ss@host/m", f"https://{REDACTED}@host/m"),
    ("http://token@host", f"http://{REDACTED}@host"),
    ("pull user:pw@host/m: no", f"pull {REDACTED}@host/m: no"),
    ("GET https://h/p?token=abc&scope=x#end", f"GET https://h/p?token={REDACTED}&scope={REDACTED}#end"),
    ("Authorization: Bearer abc.def-1", f"Authorization: {REDACTED}"),
    ("{'authorization': 'Basic dXNlcjpwdw=='}", f"{{'authorization': '{REDACTED}'}}"),
    ('{"x-api-key":"abc"}', f'{{"x-api-key":"{REDACTED}"}}'),
    ("Set-Cookie: a=b; c=d", f"Set-Cookie: {REDACTED}"),
    ("refused bearer eyJhbGciOi.J9-x", f"refused bearer {REDACTED}"),
    ("OLLAMA_API_KEY=hunter2hunter2 is set", f"OLLAMA_API_KEY={REDACTED} is set"),
    ("the key known-secret is known", f"the key {REDACTED} is known"),
    ("/v1/models/known-secret", f"/v1/models/{REDACTED}"),
]

LEFT_ALONE = [
    "Listening on 127.0.0.1:11434 (via default) (version 0.32.14)",
    "llama3:8b@sha256:abcdef",
    "Basic authentication failed",
    "bearer tokens are not taken from the query",
    "invalid environment variable, using default key=OLLAMA_NUM_PARALLEL value=abc default=0",
    "prompt_tokens=12 cached_tokens=3",
    "write to somebody@example.com",
    "http://127.0.0.1:11434/api/tags",
    "map[OLLAMA_API_KEY:[set] OLLAMA_HOST:127.0.0.1]",
    "OLLAMA_API_KEY=[set]",
    "set LLAMERO_MAX_CONCURRENT_PER_KEY=4 and LLAMERO_TLS_KEY=/srv/tls.pem",
    "10:20:30 done",
]


@pytest.fixture
def redact() -> Redaction:
    return Redaction(["known-secret", "short"])


@pytest.mark.parametrize(("text", "shown"), TAKEN_OUT)
def test_secrets_are_taken_out(redact: Redaction, text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_what_only_looks_like_one_stays(redact: Redaction, text: str) -> None:
    assert redact(text) == text


def test_a_value_that_is_too_short_to_be_told_from_chance_stays(redact: Redaction) -> None:
    assert redact("a short story") == "a short story"


def test_values_are_secret_by_the_names_of_their_variables() -> None:
    env = {
        "OLLAMA_API_KEY": "ci=infer:first-secret,second-secret",
        "AWS_SECRET_ACCESS_KEY": "aws-secret",
        "HF_TOKEN": "hf-secret",
        "PATH": "/usr/bin:/bin",
        "OLLAMA_HOST": "127.0.0.1:11434",
    }
    redact = Redaction(secrets_of(env))
    for secret in ("first-secret", "second-secret", "aws-secret", "hf-secret"):
        assert secret not in redact(f"x {secret} y")
    assert redact("/usr/bin:/bin 127.0.0.1:11434") == "/usr/bin:/bin 127.0.0.1:11434"


def test_where_a_secret_lies_is_none() -> None:
    env = {
        "LLAMERO_API_KEYS_FILE": "/srv/llamero/keys",
        "LLAMERO_TLS_KEY": "/srv/llamero/tls.pem",
        "SSH_AUTH_SOCK": "/tmp/agent.sock",
        "LLAMERO_MAX_CONCURRENT_PER_KEY": "10000000",
    }
    redact = Redaction(secrets_of(env))
    for value in env.values():
        assert redact(f"{value} is readable by others") == f"{value} is readable by others"


@pytest.mark.parametrize(
    "unit", ["a:", "a:b@", "://", "A=", "bearer ", "x-api-key ", "http://", "a://?", "-", "Authorization: ", "?a=b&"]
)
def test_hostile_text_takes_no_time(redact: Redaction, unit: str) -> None:
    began_s = time.perf_counter()
    redact((unit * 16384)[:16384])
    redact(":" + unit[0] * 16384)
    assert time.perf_counter() - began_s < 0.25
