"""`bench` against a scripted server: what is asked, shown and written, and what may fail (cli §13)."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import pytest

from llamero.cli.benchmark.records import Report, decode, encode
from llamero.cli.benchmark.tasks import BY_NAME, SECRET
from tests.cli.benchmark.reports import FAILED, model, one, report
from tests.cli.conftest import Ollama, command
from tests.cli.scripted_server import Reply, ScriptedServer, chatted, shown
from tests.cli.small_ollama import EMBEDDER, FIGURES, TALKER, stock, unloads
from tests.cli.terminals import TerminalProgram


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def measured(ollama: Ollama, *argv: str) -> Report:
    """The report of a run that went well."""
    done = ollama("bench", "--epochs", "1", "--report", "r.json", *argv)
    assert (done.status, "Error" in done.err) == (0, False), done.err
    return decode(Path("r.json").read_bytes(), "r.json")


# --- what is measured ----------------------------------------------------------------------------------------------


def test_auto_asks_all_models_everything(ollama: Ollama, server: ScriptedServer) -> None:
    stock(server, EMBEDDER, TALKER)
    found = measured(ollama, "--auto")
    assert [(each.name, bool(each.skipped)) for each in found.models] == [(EMBEDDER, True), (TALKER, False)]
    tasks = {task.task: task for task in found.models[1].tasks}
    assert list(tasks) == list(BY_NAME)
    assert tasks["tool-call"].skipped == "the model has no tools"
    assert all(len(task.rounds) == 1 for task in tasks.values() if not task.skipped)
    assert tasks["reasoning"].rounds[0].verdict == "right"
    assert tasks["json"].rounds[0].verdict == "wrong"
    answer = tasks["greeting"].rounds[0]
    assert (answer.prompt_tokens, answer.prompt_s, answer.predicted_tokens, answer.predicted_s) == (40, 0.1, 20, 0.5)
    assert answer.ttft_s is not None
    assert 0 < answer.ttft_s <= answer.total_s


def test_the_order_of_a_models_requests(ollama: Ollama, server: ScriptedServer) -> None:
    """Out of memory, loaded, warmed up, asked, and out again."""
    stock(server, TALKER)
    server.replies["GET /api/ps"] = [
        Reply(json={"models": [{"name": TALKER}]}),
        Reply(json={"models": []}),
        Reply(json={"models": [{"name": TALKER, "size": 5, "size_vram": 3, "context_length": 7}]}),
        Reply(json={"models": []}),
    ]
    found = measured(ollama, TALKER, "--task", "greeting", "--warmup", "2").models[0]
    assert server.routes[3:] == [
        *("POST /api/generate", "GET /api/ps", "GET /api/ps", "POST /api/generate"),
        *("POST /api/chat", "POST /api/chat", "GET /api/ps", "POST /api/chat"),
        *("POST /api/generate", "GET /api/ps"),
    ]
    assert unloads(server) == [TALKER, TALKER]
    assert found.load_s is not None
    assert (found.memory_bytes, found.vram_bytes, found.context_tokens) == (5, 3, 7)


def test_every_question_is_new(ollama: Ollama, server: ScriptedServer) -> None:
    stock(server, TALKER)
    measured(ollama, TALKER, "--task", "greeting,coding", "--epochs", "3")
    questions = [body["messages"][0]["content"] for body in server.bodies("POST /api/chat")]
    assert len(questions) == 7
    assert len({question[:10] for question in questions}) == 7


def test_what_the_flags_send(ollama: Ollama, server: ScriptedServer) -> None:
    stock(server, TALKER)
    flags = "--max-tokens 7 --temperature 0.5 --seed 3 --num-ctx 512 -k 90 -p Why? --warmup 0".split()
    measured(ollama, TALKER, *flags)
    body = server.body("POST /api/chat")
    assert body["options"] == {"num_predict": 7, "temperature": 0.5, "seed": 3, "num_ctx": 512}
    assert body["keep_alive"] == "1m30s"
    assert body["messages"][0]["content"].endswith("] Why?")
    assert unloads(server) == [TALKER]  # before, not after
    assert server.bodies("POST /api/generate")[1]["options"]["num_ctx"] == 512


def test_models_think_only_when_told_to(ollama: Ollama, server: ScriptedServer) -> None:
    stock(server, TALKER)
    server.replies["POST /api/show"] = shown(capabilities=["completion", "thinking", "tools", "vision"])
    Path("x.png").write_bytes(b"png")
    measured(ollama, TALKER, "-p", "What?", "--image", "x.png", "--warmup", "0")
    measured(ollama, TALKER, "--task", "tool-call", "--think", "--warmup", "0")
    pictured, tooled = server.bodies("POST /api/chat")
    assert (pictured["think"], pictured["messages"][0]["images"]) == (False, ["cG5n"])
    assert (tooled["think"], tooled["tools"][0]["function"]["name"]) == (True, "get_weather")


def test_a_long_text_fits_the_model(ollama: Ollama, server: ScriptedServer) -> None:
    stock(server, TALKER)
    info = {"general.architecture": "llama", "llama.context_length": 200}
    server.replies["POST /api/show"] = shown(capabilities=["completion"], model_info=info)
    measured(ollama, TALKER, "--task", "long-context", "--warmup", "0")
    question = server.body("POST /api/chat")["messages"][0]["content"]
    assert SECRET in question
    assert len(question.splitlines()) < 15


def test_an_old_server_that_tells_little_is_measured_too(ollama: Ollama, server: ScriptedServer) -> None:
    """No capabilities, no list of what is loaded, no version, no figures: there are still the clock and the answers."""
    stock(server, TALKER)
    server.replies |= {"POST /api/show": shown(capabilities=None), "POST /api/chat": chatted("Hello")}
    for route in ("GET /api/ps", "GET /api/version"):
        del server.replies[route]
    found = measured(ollama, TALKER, "--task", "greeting,tool-call")
    answer = found.models[0].tasks[0].rounds[0]
    assert (found.version, answer.predicted_tokens, answer.verdict) == ("unknown", 0, "right")
    assert not found.models[0].tasks[1].skipped
    assert (found.models[0].load_s, found.models[0].memory_bytes, found.notes) == (None, None, [])


# --- what may fail -------------------------------------------------------------------------------------------------


def test_a_refused_unloading_is_reported_and_not_fatal(ollama: Ollama, server: ScriptedServer) -> None:
    stock(server, "a:1", "b:2")
    done_load = Reply(json={"done": True})
    server.replies["POST /api/generate"] = [Reply(403, json={"error": "forbidden"}), done_load, done_load]
    found = measured(ollama, "--auto", "--task", "greeting")
    assert [note.split(": ")[0] for note in found.notes] == ["models cannot be unloaded here (403 Forbidden"]
    assert [each.load_s for each in found.models] == [None, None]
    assert all(each.tasks[0].rounds for each in found.models)


def test_answers_that_fail_are_counted_and_the_rest_goes_on(ollama: Ollama, server: ScriptedServer) -> None:
    stock(server, TALKER)
    server.replies["POST /api/chat"] = [
        Reply(500, json={"error": "out of\nmemory\x1b[2J"}),
        chatted("", eval_count=0),
        chatted("fine", **FIGURES),
    ]
    done = ollama("bench", TALKER, "--task", "greeting", "--epochs", "3", "--warmup", "0")
    assert done.status == 1
    assert done.err.endswith("Error: 2 of 3 answers failed; the notes say why\n")
    assert "Note: talker:1b, greeting failed 1x: 500 Internal Server Error: out of memory[2J\n" in done.out
    assert "Note: talker:1b, greeting failed 1x: answered without a word\n" in done.out


def test_an_answer_that_takes_too_long_fails(ollama: Ollama, server: ScriptedServer) -> None:
    stock(server, TALKER)
    never = threading.Event()
    server.replies["POST /api/chat"] = Reply(lines=[{"message": {"content": "a"}}, never])
    done = ollama("bench", TALKER, "--task", "greeting", "--epochs", "1", "--warmup", "0", "--timeout", "1")
    never.set()
    assert "failed 1x: timed out: no whole answer within 1 s" in done.out


def test_a_model_that_cannot_be_loaded_is_named(ollama: Ollama, server: ScriptedServer) -> None:
    stock(server, "a:1", "b:2")
    server.replies["POST /api/generate"] = [
        Reply(json={"done": True}),
        Reply(500, json={"error": "it does not fit"}),
        *[Reply(json={"done": True})] * 3,
    ]
    done = ollama("bench", "--auto", "--task", "greeting", "--epochs", "1")
    assert done.err.endswith("Error: a:1 could not be measured; the notes say why\n")
    assert "Note: a:1 failed: 500 Internal Server Error: it does not fit\n" in done.out
    assert re.search(r"^b:2 +greeting .* 1/1 ", done.out, re.MULTILINE)


def test_what_was_measured_survives_the_server(tmp_path: Path) -> None:
    """It takes no more connections while the second answer is waited for; there is no third."""
    outcome = []
    last_word = threading.Event()
    with ScriptedServer() as leaving:
        stock(leaving, TALKER)
        address = leaving.address
        leaving.replies["POST /api/chat"] = [chatted("Hello", **FIGURES), Reply(500, text="bye", after=last_word)]
        run = command(address, tmp_path)
        argv = ("bench", TALKER, "--task", "greeting", "--warmup", "0", "--report", "r.json")
        thread = threading.Thread(target=lambda: outcome.append(run(*argv)))
        thread.start()
        assert leaving.asked(9)
    last_word.set()
    thread.join()
    assert outcome[0].status == 1
    assert outcome[0].err.endswith(
        f"Error: refused: nothing listens at http://{address}; start the server ('ollama serve') or set OLLAMA_HOST\n"
    )
    rounds = decode(Path("r.json").read_bytes(), "r.json").models[0].tasks[0].rounds
    assert [each.failure for each in rounds] == ["", "500 Internal Server Error: bye"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--auto", "--epochs", "0"], "--epochs must be 1 or more"),
        (["--auto", "--temperature", "warm"], "--temperature must be a number from 0 to 10"),
        (["--auto", "--task", "dancing"], '"dancing" is neither a number nor one of the names'),
        (["--auto", "--task", "json", "-p", "x"], "--task has questions of its own"),
        (["--auto", "--format", "xml"], 'invalid value for --format: "xml" (must be benchstat or csv)'),
        (["--auto", "--output", "x"], "--output is for what --format prints"),
        (["--auto", "--report", "none/x.md"], "there is no folder"),
        (["--auto", "--image", "none.png"], "none.png cannot be read: No such file or directory"),
        (["--compare"], "--compare takes two sides"),
        (["--compare", "a", "b", "c"], "--compare takes two sides"),
        (["--compare", "none.json"], "none.json cannot be read: No such file"),
        (["--compare", "a", "b", "--format", "csv"], "--format prints one server's figures"),
        ([], "which models? name them, or take --auto for all"),
    ],
)
def test_flags_that_make_no_sense(ollama: Ollama, server: ScriptedServer, argv: list[str], said: str) -> None:
    stock(server, TALKER)
    done = ollama("bench", *argv)
    assert done.status == 1
    assert said in done.err
    assert not server.bodies("POST /api/chat")


# --- what is shown -------------------------------------------------------------------------------------------------


def test_tables_on_stdout_and_progress_on_stderr_without_control_codes(ollama: Ollama, server: ScriptedServer) -> None:
    stock(server, TALKER)
    done = ollama("bench", TALKER, "--task", "reasoning", "--epochs", "2")
    assert re.search(r"^talker:1b +reasoning +\d+ ms +400 +40\.0 +\d+ ms +40 +2/2 +0/2$", done.out, re.MULTILINE)
    assert done.err.splitlines()[0] == TALKER
    assert re.match(
        r"  reasoning, 1: first token \d+ ms, prefill 400, decode 40\.0 tokens/s, right", done.err.splitlines()[1]
    )
    assert "\x1b" not in done.out + done.err


def test_the_formats_of_go_benchmarks(ollama: Ollama, server: ScriptedServer) -> None:
    stock(server, TALKER)
    done = ollama("bench", "--model", TALKER, "--format", "benchstat", "--epochs", "2")
    assert done.out.count("BenchmarkModel/name=talker:1b/step=generate 1 25000000.00 ns/token 40.00 token/sec\n") == 2
    ollama("bench", "--model", TALKER, "--format", "csv", "--epochs", "1", "--output", "o.csv")
    assert Path("o.csv").read_text().startswith("NAME,STEP,COUNT,NS_PER_COUNT,TOKEN_PER_SEC\n# Model: talker:1b |")


def test_all_five_reports(ollama: Ollama, server: ScriptedServer) -> None:
    stock(server, TALKER)
    ollama("bench", TALKER, "--task", "greeting", "--epochs", "1", "--report", "run")
    assert sorted(path.name for path in Path().glob("run.*")) == [f"run.{e}" for e in "csv html json md png".split()]


def test_a_live_table_on_a_terminal(server: ScriptedServer, tmp_path: Path) -> None:
    stock(server, TALKER)
    go_on = threading.Event()
    answer = list(chatted("Hello", **FIGURES).lines or ())
    server.replies["POST /api/chat"] = [Reply(lines=answer), Reply(lines=answer), Reply(lines=[go_on, *answer])]
    env = {"OLLAMA_BASE_URL": f"http://{server.address}", "HOME": str(tmp_path)}
    argv = ["bench", TALKER, "--task", "greeting", "--epochs", "2"]
    with TerminalProgram(argv, env, columns=100) as program:
        program.expect("MODEL.*TASK.*TTFT.*PREFILL.*DECODE")
        program.expect("greeting.*40.0")
        program.expect(r"talker:1b: greeting, 2 of 2")
        go_on.set()
        assert program.wait() == 0
    final = program.output.rpartition("\x1b[?1049l")[2]
    assert "Tasks (medians of the rounds" in final
    assert re.search(r"talker:1b +greeting .* 2/2 +0/2", final)


def test_on_a_terminal_one_is_asked_what_to_measure(server: ScriptedServer, tmp_path: Path) -> None:
    stock(server, "a:1", "b:2")
    server.replies["POST /api/show"] = shown(capabilities=["completion"])
    env = {"OLLAMA_BASE_URL": f"http://{server.address}", "HOME": str(tmp_path)}
    with TerminalProgram(["bench", "--epochs", "1"], env, columns=100) as program:
        program.expect(r"2  b:2\r\nWhich ones \[all\]: ")
        program.type("2\n")
        program.expect(r"8  tool-call\r\nWhich ones \[all\]: ")
        program.type("1,3\n")
        program.expect("Tasks ")
        assert program.wait() == 0
    assert [body["model"] for body in server.bodies("POST /api/chat")] == ["b:2"] * 3


def test_ctrl_c_keeps_what_is_there(server: ScriptedServer, tmp_path: Path) -> None:
    stock(server, TALKER)
    server.replies["POST /api/chat"] = [chatted("Hello", **FIGURES), Reply(after=threading.Event())]
    env = {"OLLAMA_BASE_URL": f"http://{server.address}", "HOME": str(tmp_path)}
    argv = ["bench", TALKER, "--task", "greeting", "--warmup", "0", "--report", f"{tmp_path}/r.json"]
    with TerminalProgram(argv, env, columns=100) as program:
        program.expect("greeting, 2 of 6")
        program.type("\x03")
        assert program.wait() == 130
    assert re.search(r"talker:1b +greeting .* 1/1 +0/1", program.output)
    assert len(decode((tmp_path / "r.json").read_bytes(), "r").models[0].tasks[0].rounds) == 1


# --- two sides -----------------------------------------------------------------------------------------------------


def test_two_earlier_reports(ollama: Ollama, server: ScriptedServer) -> None:
    Path("old.json").write_bytes(encode(report(model("a", greeting=[one(40)]))))
    Path("new.json").write_bytes(encode(report(model("a", greeting=[one(60), FAILED]))))
    done = ollama("bench", "--compare", "old.json", "new.json", "--report", "both")
    assert (done.status, done.err) == (0, "")
    assert re.search(r"^a +greeting +40\.0 +60\.0 +1\.50x ", done.out, re.MULTILINE)
    assert "Note: new.json: a, greeting failed 1x: out of memory\n" in done.out
    assert server.requests == []
    assert len(list(Path().glob("both.*"))) == 5
    assert Path("both.md").read_text().startswith("# old.json and new.json compared\n")


def test_two_servers(ollama: Ollama, server: ScriptedServer) -> None:
    """Model by model at both, and only what both have."""
    stock(server, "a:1", "c:3", "b:2")
    with ScriptedServer() as other:
        stock(other, "b:2", "a:1")
        other.replies["POST /api/chat"] = chatted("Hello", **FIGURES | {"eval_duration": 250_000_000})
        sides = (f"http://{server.address}", f"http://ada:s3cr3t@{other.address}")
        done = ollama("bench", "--compare", *sides, "--task", "greeting", "--epochs", "1", "--report", "both")
        assert [body["model"] for body in other.bodies("POST /api/chat")] == ["a:1", "a:1", "b:2", "b:2"]
        assert other.requests[0].headers["Authorization"].startswith("Basic ")
    assert done.status == 0
    assert re.search(r"^b:2 +greeting +40\.0 +80\.0 +2\.00x ", done.out, re.MULTILINE)
    assert "c:3" not in done.out
    written = "".join(path.read_text() for path in Path().glob("both.*") if path.suffix != ".png")
    assert "s3cr3t" not in done.out + done.err + written
    assert "ada" not in done.out + done.err + written


def test_an_earlier_report_and_the_server_now(ollama: Ollama, server: ScriptedServer) -> None:
    stock(server, TALKER)
    Path("old.json").write_bytes(encode(report(model(TALKER, greeting=[one(20)], prompt=[one()]))))
    done = ollama("bench", "--compare", "old.json", "--epochs", "1")
    assert done.status == 0
    assert re.search(r"^talker:1b +greeting +20\.0 +40\.0 +2\.00x ", done.out, re.MULTILINE)
    assert len(server.bodies("POST /api/chat")) == 2  # to warm up, and the one task of the report that is ours
    assert "Note: the two were measured under different conditions\n" in done.out


def test_sides_that_share_no_model(ollama: Ollama, server: ScriptedServer) -> None:
    stock(server, TALKER)
    Path("old.json").write_bytes(encode(report(model("other", greeting=[one()]))))
    assert ollama("bench", "--compare", "old.json").err == "Error: there is no model that both sides have\n"


def test_json_of_a_run_is_json(ollama: Ollama, server: ScriptedServer) -> None:
    stock(server, TALKER)
    measured(ollama, TALKER, "--task", "greeting")
    assert json.loads(Path("r.json").read_text())["server"] == f"http://{server.address}"
