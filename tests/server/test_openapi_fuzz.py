"""Every operation of `/openapi.json`, called with what its schema allows and with what it does not (schemathesis)."""

from __future__ import annotations

import contextlib
import time

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode

from tests.conftest import StartServer
from tests.fake_llama_server import install

ROUNDS_S = 60.0
"""For all operations together, one after the other, again and again."""
ASKED = settings(
    max_examples=8, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
ABROAD = frozenset({"/api/pull", "/api/push", "/api/llamero/fit"})
"""What they ask for is elsewhere, and their errors are others' errors."""
CHANGING = frozenset({"/api/create", "/api/delete"})
"""Everywhere else the model that is asked for is one that there is."""
NOT_HERE = 501
"""Said of what a model cannot do, and of the cloud that there is not: nothing went wrong."""
MODEL = "smollm2:135m"


@pytest.mark.heavy
@pytest.mark.timeout(400)
def test_no_request_is_a_server_error(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    """And whoever asks afterwards gets an answer."""
    server = start_server(LLAMERO_LLAMA_SERVER=str(install(tmp_path_factory.mktemp("engine"))))
    schema = schemathesis.openapi.from_dict(server.get("/openapi.json").json())
    operations = [found.ok() for found in schema.get_all_operations()]
    operations = [each for each in operations if each.path not in ABROAD]
    assert len(operations) > 30
    failures: dict[str, str] = {}
    reached: set[str] = set()

    def ask(case: Case) -> None:
        if isinstance(case.body, dict) and "model" in case.body and case.path not in CHANGING:
            case.body["model"] = MODEL
        reply = case.call(base_url=server.url, timeout=20)
        reached.add(case.operation.label)
        if reply.status_code >= 500 and reply.status_code != NOT_HERE:
            failures.setdefault(
                f"{case.method} {case.path} {reply.status_code} {reply.text[:150]}", repr(case.body)[:300]
            )

    ends = time.monotonic() + ROUNDS_S
    number = 0
    while time.monotonic() < ends:
        for operation in operations:
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                number += 1
                with contextlib.suppress(Unsatisfiable):  # nothing can be wrong with a request without a body
                    seed(number)(ASKED(given(operation.as_strategy(mode))(ask)))()
    assert not failures, "\n".join(f"{reply}: {body}" for reply, body in failures.items())
    assert reached == {each.label for each in operations}
    assert "Traceback" not in server.log.read_text()
    assert server.get("/api/version").status == 200
