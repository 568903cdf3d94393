"""API keys: what OLLAMA_API_KEY and the key file say, and how one is found (security §6.1, §6.2)."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.server import keys
from llamero.server.keys import BadKeys, Key, Keys, KeyStore, read_entries, read_file, read_lines, write_line
from llamero.server.rates import Rate

ONE, TWO, THREE = (f"a-secret-with-the-number-{number}" for number in (1, 2, 3))
NOW_S = 1_800_000_000.0


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def lines(*text: str) -> list[Key]:
    return read_lines("\n".join(text))


# --- OLLAMA_API_KEY ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" , ,", []),
        (ONE, [("env1", "admin", ONE)]),
        (f" {ONE} , {TWO} ", [("env1", "admin", ONE), ("env2", "admin", TWO)]),
        (f"infer:{ONE}", [("env1", "infer", ONE)]),
        (f"admin:{ONE}", [("env1", "admin", ONE)]),
        (f"box_1-a=infer:{ONE},admin:{TWO}", [("box_1-a", "infer", ONE), ("env2", "admin", TWO)]),
        # anything else is a secret as a whole
        (f"user:{ONE}", [("env1", "admin", f"user:{ONE}")]),
        (f"name={ONE}", [("env1", "admin", f"name={ONE}")]),
        (f"INFER:{ONE}", [("env1", "admin", f"INFER:{ONE}")]),
        (f"a.b=infer:{ONE}", [("env1", "admin", f"a.b=infer:{ONE}")]),
        (f"infer:admin:{ONE}", [("env1", "infer", f"admin:{ONE}")]),
        ("c2VjcmV0LXNlY3JldA==", [("env1", "admin", "c2VjcmV0LXNlY3JldA==")]),
        ("x" * 16, [("env1", "admin", "x" * 16)]),
    ],
)
def test_the_entries_of_the_variable(text: str, expected: list[tuple[str, str, str]]) -> None:
    found = [(key.name, key.role, key.digest) for key in read_entries(text)]
    assert found == [(name, role, digest(secret)) for name, role, secret in expected]


@pytest.mark.parametrize(
    "text",
    [
        "x" * 15,
        f"{ONE},short",
        "infer:",
        "infer:short",
        "box=admin:short",
        f"{ONE} {TWO}",
        f"infer:{ONE}\tx",
        f"é{ONE}",
        "\0" * 20,
    ],
)
def test_a_secret_that_is_none_stops_the_start(text: str) -> None:
    """partly X-47. Nothing of it is told."""
    with pytest.raises(BadKeys, match=r"^OLLAMA_API_KEY, entry [12]: ") as caught:
        read_entries(text)
    assert not any(word in str(caught.value) for word in ("short", "number", "xxx"))


def test_a_key_does_not_show_its_secret_nor_its_digest() -> None:
    key = read_entries(ONE)[0]
    assert ONE not in repr(key)
    assert key.digest.hex() not in repr(key)
    assert repr(key.digest) not in repr(key)


# --- the key file --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (f"al admin {ONE}", Key("al", "admin", digest(ONE))),
        (f"  al\tinfer   {ONE}\r", Key("al", "infer", digest(ONE))),
        (f"al infer sha256${digest(ONE).hex()}", Key("al", "infer", digest(ONE))),
        (f"al infer:llama3.2,user/m:q4 {ONE}", Key("al", "infer", digest(ONE), ("llama3.2", "user/m:q4"))),
        (f"al admin {ONE} expires=2027-01-15T08:00:00Z", Key("al", "admin", digest(ONE), expires_at_s=NOW_S)),
        (f"al admin {ONE} expires=2027-01-15T10:00:00.5+02:00", Key("al", "admin", digest(ONE), (), NOW_S + 0.5)),
        (f"al admin {ONE} rate=60/m", Key("al", "admin", digest(ONE), rate=Rate(60, "m"))),
        (
            f"al infer {ONE} rate=5/s expires=2027-01-15t08:00:00z",
            Key("al", "infer", digest(ONE), (), NOW_S, Rate(5, "s")),
        ),
        (f"al admin {ONE} # of the laptop", Key("al", "admin", digest(ONE))),
        (f"{'n' * 32} admin #{ONE}", Key("n" * 32, "admin", digest(f"#{ONE}"))),
    ],
)
def test_a_line_of_the_file(line: str, key: Key) -> None:
    assert lines("# keys", "", line, "   # more") == [key]


@pytest.mark.parametrize(
    "line",
    [
        "al",
        "al admin",
        f"al {ONE}",
        f"al root {ONE}",
        f"al Admin {ONE}",
        f"al admin:m {ONE}",
        f"al infer: {ONE}",
        f"al infer:m, {ONE}",
        f"al infer:a//b {ONE}",
        f"al infer:../x {ONE}",
        f"a.l admin {ONE}",
        f"{'n' * 33} admin {ONE}",
        "al admin short",
        f"al admin {ONE},{TWO}",
        "al admin sha256$abcd",
        f"al admin sha256${digest(ONE).hex().upper()}",
        f"al admin sha256${digest(ONE).hex()}0",
        f"al admin {ONE} {TWO}",
        f"al admin {ONE} expires",
        f"al admin {ONE} expires=tomorrow",
        f"al admin {ONE} expires=2027-01-15",
        f"al admin {ONE} expires=2027-01-15T08:00:00",
        f"al admin {ONE} expires=2027-13-15T08:00:00Z",
        f"al admin {ONE} expires=2027-01-15T08:00:00Z expires=2028-01-15T08:00:00Z",
        f"al admin {ONE} rate=60",
        f"al admin {ONE} rate=0/m",
        f"al admin {ONE} models=m",
    ],
)
def test_a_line_that_is_none_is_named_and_its_secret_is_not(line: str) -> None:
    """partly X-47."""
    with pytest.raises(BadKeys, match=r"^key file, line 2: ") as caught:
        lines("# keys", line)
    assert "secret-with" not in str(caught.value)
    assert digest(ONE).hex() not in str(caught.value).lower()


def names() -> st.SearchStrategy[str]:
    return st.from_regex(r"[A-Za-z0-9_-]{1,32}", fullmatch=True)


@given(
    st.builds(
        Key,
        name=names(),
        role=st.just("infer"),
        digest=st.binary(min_size=32, max_size=32),
        models=st.lists(st.sampled_from(["llama3.2", "user/m:q4", "host:1/u/m:t"]), max_size=3).map(tuple),
        expires_at_s=st.none() | st.integers(0, 4_000_000_000).map(float),
        rate=st.none() | st.builds(Rate, st.integers(1, 999), st.sampled_from("smhd")),
    )
)
def test_what_is_written_is_read_again(key: Key) -> None:
    assert read_lines(write_line(key)) == [key]


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
@pytest.mark.parametrize(
    ("mode", "good"),
    [(0o600, True), (0o640, True), (0o400, True), (0o440, True)]
    + [(mode, False) for mode in (0o644, 0o604, 0o660, 0o620, 0o602, 0o601, 0o650, 0o666, 0o777)],
)
def test_a_key_file_is_not_for_others(tmp_path: Path, mode: int, good: bool) -> None:
    """partly X-47."""
    path = tmp_path / "keys"
    path.write_text(f"al admin {ONE}\n")
    path.chmod(mode)
    if good:
        assert read_file(path) == f"al admin {ONE}\n"
    else:
        with pytest.raises(BadKeys, match=f"mode {mode:04o}.*chmod 600 {path}"):
            read_file(path)


def write(path: Path, *text: str) -> Path:
    path.write_text("\n".join(text) + "\n")
    path.chmod(0o600)
    return path


def test_files_that_are_none(tmp_path: Path) -> None:
    assert read_file(tmp_path / "none") is None
    assert read_file(write(tmp_path / "file") / "inside") is None
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir()
    write(tmp_path / "binary").write_bytes(b"\xff\xfe")
    write(tmp_path / "large").write_bytes(b"#" * (keys.MAX_FILE_BYTES + 1))
    for name in ("pipe", "folder", "binary", "large"):
        with pytest.raises(BadKeys, match=name):
            read_file(tmp_path / name)
    write(tmp_path / "marked").write_bytes(b"\xef\xbb\xbfal admin " + ONE.encode())
    assert read_file(tmp_path / "marked") == f"al admin {ONE}"
    (tmp_path / "link").symlink_to(write(tmp_path / "real", f"al admin {ONE}"))  # as secrets are mounted
    assert read_file(tmp_path / "link") == f"al admin {ONE}\n"


# --- finding one ---------------------------------------------------------------------------------------------------

THREE_KEYS = Keys(lines(f"first admin {ONE}", f"second infer {TWO}", f"last admin {THREE}"))


@pytest.mark.parametrize("secret", [ONE, TWO, THREE, "", "x", ONE[:-1], f"{ONE}x", ONE.upper(), "y" * 10_000])
def test_x44_every_secret_is_compared_with_every_key_in_constant_time(
    secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X-44: as many comparisons wherever the key stands, of digests, which have one length."""
    compared: list[tuple[bytes, bytes]] = []

    class Watched:
        @staticmethod
        def compare_digest(one: bytes, other: bytes) -> bool:
            compared.append((one, other))
            return hmac.compare_digest(one, other)

    monkeypatch.setattr(keys, "hmac", Watched)
    found = THREE_KEYS.find(secret.encode(), NOW_S)
    assert compared == [(digest(secret), key.digest) for key in THREE_KEYS]
    expected = {ONE: "first", TWO: "second", THREE: "last"}.get(secret)
    assert (found.name if found else None) == expected


def test_an_expired_key_is_none() -> None:
    ended = Keys(lines(f"al admin {ONE} expires=2027-01-15T08:00:00Z"))
    assert ended.find(ONE.encode(), NOW_S - 0.1) is not None
    assert ended.find(ONE.encode(), NOW_S) is None
    assert ended.required


@pytest.mark.parametrize(
    "listed",
    [
        [f"al admin {ONE}", f"al infer {TWO}"],
        [f"al admin {ONE}", f"bo infer {ONE}"],
        [f"al admin {ONE}", f"bo infer sha256${digest(ONE).hex()}"],
    ],
)
def test_two_keys_with_one_name_or_one_secret_stop_the_start(listed: list[str]) -> None:
    """partly X-47."""
    with pytest.raises(BadKeys, match=r"al\b"):
        Keys(lines(*listed))


# --- keys in force -------------------------------------------------------------------------------------------------


def known(store: KeyStore) -> dict[str, str]:
    return {key.name: key.role for key in store.keys}


def test_the_keys_of_both_places_are_one_list(tmp_path: Path) -> None:
    path = write(tmp_path / "keys", f"al infer {ONE}")
    store = KeyStore(f"box=admin:{TWO}", path)
    assert known(store) == {"box": "admin", "al": "infer"}
    assert store.sources == ("OLLAMA_API_KEY", str(path))
    with pytest.raises(BadKeys, match="called al"):
        KeyStore(f"al=admin:{TWO}", path)


def test_without_either_no_key_is_needed(tmp_path: Path) -> None:
    store = KeyStore("", tmp_path / "keys")
    assert (store.keys.required, store.sources) == (False, ())


def test_a_file_that_lists_nobody_lets_nobody_in(tmp_path: Path) -> None:
    """To revoke the last key must not open the server."""
    store = KeyStore("", write(tmp_path / "keys", "# nobody"))
    assert store.keys.required
    assert store.keys.find(ONE.encode(), NOW_S) is None


def test_a_named_file_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(BadKeys, match="not there"):
        KeyStore("", tmp_path / "keys", file_is_named=True)


def test_a_client_s_variable_does_not_make_its_key_an_admin_s(tmp_path: Path) -> None:
    """The server is started from a shell in which OLLAMA_API_KEY is set for the client."""
    path = write(tmp_path / "keys", f"al infer {ONE}")
    assert known(KeyStore(ONE, path)) == {"al": "infer"}
    assert known(KeyStore(f"{ONE},{TWO}", path)) == {"al": "infer", "env2": "admin"}
    with pytest.raises(BadKeys, match="one secret"):
        KeyStore(f"bo=admin:{ONE}", path)


def test_the_file_is_read_again(tmp_path: Path) -> None:
    """partly X-47: keys come and go while the server runs."""
    path = tmp_path / "keys"
    store = KeyStore("", path)
    write(path, f"al admin {ONE}")
    store.reload()
    assert known(store) == {"al": "admin"}
    write(path, f"bo infer {TWO}")
    store.reload()
    assert known(store) == {"bo": "infer"}


@pytest.mark.parametrize("change", ["broken", "open", "gone"])
def test_a_file_that_is_not_good_any_more_leaves_the_keys_as_they_are(tmp_path: Path, change: str) -> None:
    path = write(tmp_path / "keys", f"al admin {ONE}")
    store = KeyStore("", path)
    if change == "gone":
        path.unlink()
    else:
        write(path, f"bo admin {TWO}", "nonsense" if change == "broken" else "")
        path.chmod(0o600 if change == "broken" else 0o644)
    with pytest.raises(BadKeys):
        store.reload()
    assert known(store) == {"al": "admin"}
