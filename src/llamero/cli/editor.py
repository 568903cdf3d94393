"""Writing a message in an editor of one's own (cli §6.6)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ..errors import BadRequest

VARIABLES = ("OLLAMA_EDITOR", "VISUAL", "EDITOR")
DEFAULT = "edit" if sys.platform == "win32" else "vi"


def edit(text: str, env: Mapping[str, str]) -> str:
    """What has become of `text` in the editor; nothing if it was emptied. Raises BadRequest when there is no editor."""
    chosen = next((value for name in VARIABLES if (value := env.get(name, "").strip())), DEFAULT)
    program, *arguments = chosen.split()
    if shutil.which(program, path=env.get("PATH")) is None:
        raise BadRequest(f'editor "{program}" not found, set OLLAMA_EDITOR to the path of your preferred editor')
    handle, name = tempfile.mkstemp(prefix="ollama-prompt-", suffix=".txt")
    path = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        status = subprocess.run([program, *arguments, name], env=dict(env), check=False).returncode
        if status:
            raise BadRequest(f"{program} ended with status {status}, so the message is as it was")
        edited = path.read_text(encoding="utf-8", errors="replace").rstrip("\r\n")
        return edited if edited.strip() else ""
    finally:
        path.unlink(missing_ok=True)
