"""The plan of parts and the text of their states: Ollama's, byte for byte (store-registry §3.3)."""

from __future__ import annotations

import json

import pytest

from llamero.registry.parts import MAX_PARTS, Part, completed_bytes, plan, read

MB = 1_000_000
GB = 1_000_000_000


@pytest.mark.parametrize(
    ("size_bytes", "sizes"),
    [
        (0, []),
        (1, [1]),
        (50 * MB, [50 * MB]),
        (100 * MB, [100 * MB]),
        (100 * MB + 1, [100 * MB, 1]),
        (1_200 * MB, [100 * MB] * 12),
        (4_700 * MB, [293_750_000] * 16),
        (16 * GB + 15, [1000 * MB] * 16 + [15]),
        (42 * GB, [1000 * MB] * 42),
    ],
    ids=str,
)
def test_the_plan(size_bytes: int, sizes: list[int]) -> None:
    parts = plan(size_bytes)
    assert [part.size_bytes for part in parts] == sizes
    assert [part.number for part in parts] == list(range(len(sizes)))
    assert [part.offset for part in parts] == [sum(sizes[:number]) for number in range(len(sizes))]
    assert not any(part.completed_bytes for part in parts)


def test_the_largest_blob_is_not_cut_into_more_parts_than_are_read_back() -> None:
    assert len(plan(8 << 40)) <= MAX_PARTS


def test_the_text_of_a_state() -> None:
    assert plan(200 * MB)[0].state == b'{"N":0,"Offset":0,"Size":100000000,"Completed":0}\n'
    assert Part(11, 5, 7, 3).state == b'{"N":11,"Offset":5,"Size":7,"Completed":3}\n'


def states(*parts: Part) -> dict[int, bytes]:
    return {part.number: part.state for part in parts}


def test_what_was_written_is_read_back_and_the_order_is_that_of_the_blob() -> None:
    parts = [Part(0, 0, 40, 40), Part(2, 40, 30, 5), Part(1, 70, 30)]
    found = read(states(*parts), 100)
    assert found is not None
    assert [part.state for part in found] == [part.state for part in parts]


def test_keys_in_another_order_and_unknown_keys_are_read() -> None:
    assert read({0: b' {"Completed": 3, "Size": 9, "More": null, "Offset": 0, "N": 0} '}, 9) is not None


SOUND = {"N": 0, "Offset": 0, "Size": 100, "Completed": 0}


@pytest.mark.parametrize(
    "tampered",
    [
        {},
        {0: b""},
        {0: b"{"},
        {0: b"[]"},
        {0: b"\xff\xfe"},
        {0: b"null"},
        {0: Part(0, 0, 100).state * 2},
        {0: b'{"N":0,"Offset":0,"Size":100}'},
        *({0: json.dumps(SOUND | change).encode()} for change in (
            {"Offset": -1},
            {"Offset": 1},
            {"Size": -100},
            {"Size": 0},
            {"Size": 99},
            {"Size": 101},
            {"Size": 1 << 62},
            {"Size": 10**30},
            {"Size": 100.0},
            {"Size": 1e300},
            {"Size": True},
            {"Size": "100"},
            {"Completed": -1},
            {"Completed": 101},
            {"Completed": None},
            {"N": 1},
            {"N": -1},
        )),
        {1: Part(1, 0, 100).state},
        states(Part(0, 0, 60), Part(1, 50, 50)),
        states(Part(0, 0, 100), Part(1, 0, 100)),
        states(Part(0, 0, 40), Part(1, 50, 50)),
        states(Part(0, 0, 50), Part(2, 50, 50)),
        states(Part(0, 0, 50), Part(1, 50, 50), Part(2, 100, 1)),
        {0: Part(0, 0, 50).state, 1: Part(0, 50, 50).state},
        {number: Part(number, number, 1).state for number in range(MAX_PARTS + 1)},
    ],
    ids=lambda tampered: str(list(tampered.values()))[:60],
)  # fmt: skip
def test_x84_states_that_do_not_fit_together_are_not_believed(tampered: dict[int, bytes]) -> None:
    """Partly X-84: what becomes of the download is shown with it."""
    assert read(tampered, 100 if len(tampered) < MAX_PARTS else MAX_PARTS + 1) is None


def test_progress_of_another_process_counts_what_can_be_read() -> None:
    halfway = {0: Part(0, 0, 60, 50).state, 1: b'{"N":1,"Off', 2: Part(2, 80, 20, 7).state}
    assert completed_bytes(halfway) == 57


def test_a_part_that_is_split_stays_whole() -> None:
    part = Part(3, 100, 50, 10)
    rest = part.split(120, 9)
    assert (part.offset, part.size_bytes, part.completed_bytes) == (100, 20, 10)
    assert (rest.number, rest.offset, rest.size_bytes, rest.completed_bytes) == (9, 120, 30, 0)
    assert part.split(110, 10).remaining_bytes == 10
    assert part.is_done
