"""pip says where the package index is; what it prints is read, whatever a user configured."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llamero.errors import RegistryError
from llamero.registry.pip import PipSettings, parse_default, parse_settings, read_settings

MAIN = "https://a.example/simple"


@pytest.mark.parametrize(
    ("listed", "settings"),
    [
        pytest.param([], PipSettings(), id="nothing configured"),
        pytest.param([f"global.index-url='{MAIN}'"], PipSettings(MAIN), id="a file's index"),
        pytest.param(
            [
                f":env:.index-url='{MAIN}'",
                "download.index-url='https://b.example'",
                "global.index-url='https://c.example'",
            ],
            PipSettings(MAIN),
            id="the environment before the section of the command before the global one",
        ),
        pytest.param(["install.index-url='https://b.example'"], PipSettings(), id="another command's section"),
        pytest.param(
            [f"global.index-url='{MAIN}'", "global.extra-index-url='\\nhttps://b.example\\nhttps://c.example'"],
            PipSettings(MAIN, ("https://b.example", "https://c.example")),
            id="several, on lines of their own",
        ),
        pytest.param(
            ["global.find-links='/a https://b.example/x.html'", "global.no-index='true'"],
            PipSettings(is_offline=True, find_links=("/a", "https://b.example/x.html")),
            id="no index, only links",
        ),
        pytest.param(
            ["global.cert='/ca.pem'", "global.trusted-host='A.example b:8080'", "global.proxy='http://p:3128'"],
            PipSettings(certificates="/ca.pem", trusted_hosts=("a.example", "b:8080"), proxy="http://p:3128"),
            id="how it is reached",
        ),
        pytest.param(
            ["WARNING: something", "global.cert=unquoted", "global.cert='half"], PipSettings(), id="no entries"
        ),
    ],
)
def test_what_pip_lists_is_read(listed: list[str], settings: PipSettings) -> None:
    assert parse_settings(listed) == settings


def test_an_index_that_is_switched_off_is_not_asked() -> None:
    assert PipSettings(MAIN, ("https://b.example",), is_offline=True).indexes == ()
    assert PipSettings(MAIN, ("https://b.example",)).indexes == (MAIN, "https://b.example")


def test_pips_own_index_stands_in_its_help() -> None:
    helped = ["  -i, --index-url <url>   Base URL of the Package Index (default", f"          {MAIN}). This should"]
    assert parse_default(helped) == MAIN
    with pytest.raises(RegistryError, match="set PIP_INDEX_URL"):
        parse_default(["  --index-url <url>  Base URL."])


def test_the_real_pip_is_asked(tmp_path: Path) -> None:
    env = {"PATH": os.defpath, "PIP_INDEX_URL": MAIN, "PIP_FIND_LINKS": "/a /b", "PIP_CONFIG_FILE": os.devnull}
    assert read_settings(env, tmp_path, lambda: False) == PipSettings(MAIN, find_links=("/a", "/b"))


def test_the_real_pip_tells_its_own_index(tmp_path: Path) -> None:
    settings = read_settings({"PATH": os.defpath, "PIP_CONFIG_FILE": os.devnull}, tmp_path, lambda: False)
    assert settings.main_index.startswith("https://")
