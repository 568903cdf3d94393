"""Runs checks of a client in the client's own environment, which may be of any version. It imports nothing of ours.

    python checking.py openai_checks '{"url": .., ..}' a_chat completions

What a module's `Scene` is told stands there. The status is 1 if a check fails.
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback


def main(module: str, told: str, *names: str) -> int:
    checks = importlib.import_module(module)
    scene = checks.Scene(json.loads(told))
    failed = 0
    for name in names:
        try:
            getattr(checks, name)(scene)
        except Exception:
            failed += 1
            print(name, traceback.format_exc(), sep="\n")
    scene.close()
    print(f"{module}: {len(names) - failed} of {len(names)} passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
