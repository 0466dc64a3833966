"""Process pool: the same results in the same order with any number of workers; their errors are raised here."""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from adaptation.data.batches import snapshot_folder
from adaptation.data.span_preparation import prepare
from adaptation.data.spans import SpanStore
from adaptation.data.splits import Split
from adaptation.errors import AdaptationError
from adaptation.io import process_pool
from adaptation.io.process_pool import ahead, share
from tests.worlds.images import contents, image
from tests.worlds.spans import LABELS, NAMES


@pytest.fixture(autouse=True)
def three_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_pool, "processors", lambda: 3)


def doubled(number: int) -> int:
    return 2 * number


def met(folder: Path, number: int) -> int:
    """Return the process id after the other two processes have begun to work too."""
    (folder / f"{os.getpid()}").touch()
    for _ in range(600):
        if len(list(folder.iterdir())) == 3:
            return os.getpid()
        threading.Event().wait(0.1)
    raise TimeoutError("the other processes did not start")


def refuse(number: int) -> int:
    if number == 7:
        raise ValueError("seven cannot be done")
    return number


def fail_in_a_worker(parent: int, number: int) -> int:
    if os.getpid() != parent:
        raise ValueError("not here")
    threading.Event().wait(0.2)
    return number


def die_in_a_worker(parent: int, number: int) -> int:
    if os.getpid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait(0.2)
    return number


def large(number: int) -> bytes:
    return bytes([number]) * 3_000_000


def after_a_while(item: bytes) -> bytes:
    threading.Event().wait(0.2)
    return item


def say(number: int) -> int:
    print("output of a task is no result", flush=True)
    threading.Event().wait(0.02)
    return number


@pytest.mark.parametrize("helpers", [0, 1, 2, 9])
def test_results_are_in_order_with_any_number_of_workers(helpers: int) -> None:
    assert share(doubled, range(200), helpers) == list(range(0, 400, 2))
    assert share(doubled, [], helpers) == []


def test_parent_and_workers_work_at_the_same_time(tmp_path: Path) -> None:
    processes = share(functools.partial(met, tmp_path), range(12), 2)
    assert len(set(processes)) == 3
    assert os.getpid() in processes


def test_workers_are_limited_by_the_number_of_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_pool, "processors", lambda: 1)
    assert set(share(pid, range(20), 8)) == {os.getpid()}


def pid(number: int) -> int:
    return os.getpid()


def test_results_may_be_larger_than_a_pipe_buffer() -> None:
    assert share(large, range(12), 2) == [large(number) for number in range(12)]


def test_items_and_results_may_be_larger_than_a_pipe_buffer() -> None:
    items = [bytes([number]) * 3_000_000 for number in range(12)]
    assert share(after_a_while, items, 2) == items


def test_output_of_a_task_does_not_mix_with_the_results() -> None:
    assert share(say, range(40), 2) == list(range(40))


def test_exception_of_a_task_is_raised_in_the_parent() -> None:
    with pytest.raises(ValueError, match="seven cannot be done"):
        share(refuse, range(20), 2)
    with pytest.raises(ValueError, match="not here"):
        share(functools.partial(fail_in_a_worker, os.getpid()), range(200), 2)


def test_killed_worker_raises_worker_lost() -> None:
    with pytest.raises(AdaptationError, match="ended in the middle of its work"):
        share(functools.partial(die_in_a_worker, os.getpid()), range(200), 2)


def test_span_has_the_same_bytes_with_one_process_and_three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,100 images and two unusable ones, in parts of 16, prepared by one process and by three."""
    collection = tmp_path / "2021-10"
    collection.mkdir()
    small = [image(number, "JPEG") for number in range(100)]
    for number in range(1_100):
        name = f"{NAMES[number % 2]}_{number:04d}.jpg"
        (collection / name).write_bytes(small[number % 100] + b"%d" % number)
    (collection / "cat_damaged.jpg").write_bytes(small[0][:200])
    (collection / "dog_unknown.jpg").write_bytes(small[0])
    monkeypatch.setattr("adaptation.data.span_preparation.PART_IMAGES", 16)
    made = []
    for processors in (1, 3):
        monkeypatch.setattr(process_pool, "processors", lambda count=processors: count)
        store = SpanStore(str(tmp_path / f"data-{processors}"))
        manifest = prepare(store, snapshot_folder(str(collection), "2021-10"), LABELS, Split(ratio=0.5))
        made.append({name: data for name, data in contents(store.root).items() if name.endswith(".tfrecord")})
        assert manifest.images == 1_100
        assert [one.name for one in manifest.skipped] == ["cat_damaged.jpg", "dog_unknown.jpg"]
    assert made[0] == made[1] != {}


# Threads


def test_results_of_threads_are_in_the_order_of_their_items() -> None:
    turns = [threading.Event() for _ in range(3)]

    def last_one_first(number: int) -> int:
        if number < 2:
            assert turns[number + 1].wait(60)
        turns[number].set()
        return 2 * number

    assert list(ahead(last_one_first, range(3), 3)) == [0, 2, 4]


def test_threads_take_at_most_one_item_each_ahead_of_the_consumer() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    for asked, result in enumerate(ahead(doubled, items(), 2), 1):
        assert result == 2 * (asked - 1)
        assert len(taken) <= asked + 2
    assert len(taken) == 100


def test_exception_of_a_thread_is_raised_in_order_and_ends_the_work() -> None:
    begun: list[int] = []

    def refuse_seven(number: int) -> int:
        begun.append(number)
        return refuse(number)

    done = ahead(refuse_seven, range(1_000), 2)
    assert [next(done) for _ in range(7)] == list(range(7))
    with pytest.raises(ValueError, match="seven cannot be done"):
        next(done)
    assert max(begun) <= 9
