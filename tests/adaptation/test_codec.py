"""Codec: values are read as they were written, and invalid data is one error that says where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from adaptation import codec
from adaptation.codec import UnreadableState, decode, encode


class Mood(StrEnum):
    GOOD = "good"


class File(NamedTuple):
    name: str
    size: int


@dataclass(frozen=True)
class Value:
    files: tuple[File, ...]
    shares: Mapping[int, float]
    mood: Mood = Mood.GOOD
    note: str | None = None


VALUE = Value((File("schöne.jpg", 7),), {3: 0.25, 12: 1.0})
TEXT = '{"files":[["schöne.jpg",7]],"shares":{"3":0.25,"12":1.0}}'


def test_value_is_unchanged_by_encoding_and_decoding() -> None:
    assert decode(encode(VALUE), Value, "a.json") == VALUE
    assert decode(encode(VALUE, indent=0), Value, "a.json") == VALUE
    assert decode(TEXT, Value, "a parameter") == VALUE


def test_form_is_readable_and_stable() -> None:
    assert encode({"b": [1], "a": {}}) == b'{\n "b": [\n  1\n ],\n "a": {}\n}'
    assert encode({"b": [1], "a": {}}, indent=0) == b'{"b": [1], "a": {}}'


def test_unknown_field_is_ignored() -> None:
    assert decode('{"files":[],"shares":{},"later":1}', Value, "a.json") == Value((), {})


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "truncated"),
        (TEXT.encode()[:20], "truncated"),
        (b"\x80\x04garbage", "malformed"),
        (b"{}", "missing required field `files`"),
        (b'{"files":[["a.jpg"]],"shares":{}}', r"length 2 - at `\$.files\[0\]`"),
        (b'{"files":[],"shares":{"3":"high"}}', r"Expected `float`, got `str` - at `\$.shares"),
        (b'{"files":[],"shares":{},"mood":"bad"}', r"Invalid enum value 'bad' - at `\$.mood`"),
        (b'{"files":[],"shares":{},"note":"\xff"}', "utf-8"),
        ('{"files":[],"shares":{},"note":"\udc80"}', "surrogates"),
    ],
)
def test_unreadable_data_names_file_place_and_remedy(data: bytes | str, what: str) -> None:
    with pytest.raises(UnreadableState, match=rf"^data/a\.json cannot be read: .*{what}.* Restore it from a copy"):
        decode(data, Value, "data/a.json")


def test_data_nested_without_end_is_unreadable() -> None:
    with pytest.raises(UnreadableState, match="recursion"):
        decode("[" * 100_000, list[Any], "a.json")


def test_remedy_is_that_of_the_caller() -> None:
    with pytest.raises(UnreadableState, match=r"truncated\. Publish it again\.$"):
        decode("", Value, "a.json", remedy="Publish it again.")


def test_read_names_the_file_by_its_uri(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(encode(VALUE))
    assert codec.read(str(file), Value) == VALUE
    file.write_bytes(b"{")
    with pytest.raises(UnreadableState, match=f"^{file} cannot be read"):
        codec.read(str(file), Value)
    with pytest.raises(FileNotFoundError):
        codec.read(str(tmp_path / "b.json"), Value)
