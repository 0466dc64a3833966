"""Journal: it has one current record, with any number of concurrent writers."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from adaptation.codec import UnreadableState
from adaptation.io import storage
from adaptation.io.journal import Journal, Record
from adaptation.io.storage import join
from tests.worlds.processes import at_once


def a_journal(folder: str) -> Journal[dict[str, Any]]:
    return Journal(folder, dict[str, Any])


def test_empty_journal_has_no_record(root: str) -> None:
    assert a_journal(root).last() is None
    assert a_journal(root).records() == []


def test_record_appended_last_is_current(root: str) -> None:
    journal = a_journal(root)
    assert journal.append({"job": "a"}, after=0) == Record(1, {"job": "a"})
    assert journal.append({"job": "b"}, after=1) == Record(2, {"job": "b"})
    assert journal.last() == Record(2, {"job": "b"})
    assert journal.records() == [Record(1, {"job": "a"}), Record(2, {"job": "b"})]


@pytest.mark.parametrize("number", [9, 99, 9999])
def test_records_are_in_numeric_order(root: str, number: int) -> None:
    journal = a_journal(root)
    for after in (number, number - 1):
        journal.append({"after": after}, after=after)
    assert [record.number for record in journal.records()] == [number, number + 1]
    assert journal.last() == Record(number + 1, {"after": number})


def test_record_is_never_replaced(root: str) -> None:
    journal = a_journal(root)
    journal.append({"job": "first"}, after=0)
    with pytest.raises(FileExistsError):
        journal.append({"job": "second"}, after=0)
    assert journal.records() == [Record(1, {"job": "first"})]


def test_append_after_the_same_record_succeeds_for_one_of_16_threads(root: str) -> None:
    def append(number: int) -> bool:
        try:
            a_journal(root).append({"writer": number}, after=3)
            return True
        except FileExistsError:
            return False

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(append, range(16)))
    assert won.count(True) == 1
    assert a_journal(root).records() == [Record(4, {"writer": won.index(True)})]


def test_append_after_the_same_record_succeeds_for_one_process(disk: str) -> None:
    for after in range(10):
        results = at_once(*[lambda after=after: a_journal(disk).append({}, after=after)] * 4)
        assert sum(isinstance(result, Record) for result in results) == 1
        assert sum(isinstance(result, FileExistsError) for result in results) == 3
    assert len(a_journal(disk).records()) == 10


def test_other_files_are_no_records(root: str) -> None:
    journal = a_journal(root)
    journal.append({}, after=0)
    for name in ("notes.txt", "x.json", ".tmp-9999.json", "0002.json.bak", "deeper/0003.json"):
        storage.write(join(root, name), b"{}")
    assert journal.records() == [Record(1, {})]


def test_record_is_a_readable_json_file(root: str) -> None:
    a_journal(root).append({"b": 1, "a": ["x"]}, after=0)
    assert json.loads(storage.read(join(root, "0001.json"))) == {"a": ["x"], "b": 1}


def test_update_is_retried_after_a_concurrent_append(root: str) -> None:
    journal, seen = a_journal(root), []

    def change(last: Record[dict[str, Any]] | None) -> dict[str, Any]:
        seen.append(last.value["job"] if last else None)
        if len(seen) == 1:
            a_journal(root).append({"job": "another's"}, after=0)
        return {"job": "mine"}

    assert journal.update(change) == Record(2, {"job": "mine"})
    assert seen == [None, "another's"]


def test_update_without_a_change_appends_nothing(root: str) -> None:
    journal = a_journal(root)
    journal.append({"job": "a"}, after=0)
    assert journal.update(lambda last: None) is None
    assert journal.records() == [Record(1, {"job": "a"})]


def test_concurrent_updates_are_all_counted(root: str) -> None:
    def count(_: int) -> None:
        a_journal(root).update(lambda last: {"count": last.value["count"] + 1 if last else 1})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    assert [record.value["count"] for record in a_journal(root).records()] == list(range(1, 9))


def test_unreadable_record_is_named_by_its_file(root: str) -> None:
    journal = a_journal(root)
    journal.append({"job": "a"}, after=0)
    storage.write(join(root, "0002.json"), b'{"job": ')
    for reading in (journal.last, journal.records, lambda: journal.update(lambda last: {})):
        with pytest.raises(UnreadableState, match=r"0002\.json cannot be read: .*truncated"):
            reading()
