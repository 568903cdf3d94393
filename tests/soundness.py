"""Whether a models folder is sound: looked at with plain eyes, without our code, and by `ollama doctor --store`."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path

from tests.running import OLLAMA, Server, clean_environment, free_port

BLOB = re.compile(r"sha256-[0-9a-f]{64}")
RESUMABLE = re.compile(r"sha256-[0-9a-f]{64}(-partial(-[0-9]+)?|\.tmp)")


def assert_sound(models: Path) -> None:
    """Every model is whole, and whatever is called by a digest has it."""
    blobs = {path.name: path for path in (models / "blobs").glob("*") if BLOB.fullmatch(path.name)}
    for name, path in blobs.items():
        with path.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == name[7:], f"{name} is not what it is called"
    for path in (models / "manifests").glob("*/*/*/*"):
        document = json.loads(path.read_bytes())
        for layer in (document["config"], *document["layers"]):
            name = layer["digest"].replace(":", "-")
            assert name in blobs, f"{path} lists {name}, which is not there"
            assert blobs[name].stat().st_size == layer["size"]


def assert_tidy(models: Path) -> None:
    """Nothing is left of work that was interrupted, but downloads that can be resumed (store-registry §2)."""
    strays = [path.name for path in (models / "blobs").glob("*") if not BLOB.fullmatch(path.name)]
    assert [name for name in strays if not RESUMABLE.fullmatch(name)] == []
    assert list((models / ".llamero" / "tmp").glob("*")) == []


def doctor(models: Path, home: Path) -> str:
    """What `doctor --store` says while no server runs. It finds nothing that is broken."""
    env = clean_environment(home, OLLAMA_HOST=f"127.0.0.1:{free_port()}", OLLAMA_MODELS=str(models))
    done = subprocess.run([OLLAMA, "doctor", "--store"], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def doctor_of(server: Server) -> list[dict[str, str]]:
    """What a running server finds in its own folder. Nothing is broken."""
    reply = server.post("/api/llamero/doctor", {})
    lines = reply.lines()
    assert lines[-1] == {"status": "success"}, lines[-1]
    found = [line for line in lines if "level" in line]
    assert [line for line in found if line["level"] == "fail"] == []
    return found
