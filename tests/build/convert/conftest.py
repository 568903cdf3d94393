from __future__ import annotations

import pytest

from tests.build.convert.tiny_bert import TinyBert


@pytest.fixture
def bert() -> TinyBert:
    return TinyBert()
