"""Storage: the same promises on a disk and on an object store."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from adaptation.io import storage
from adaptation.io.locks import is_locked
from adaptation.io.storage import File, collector_at_rest, join
from tests.worlds.processes import NOBODY, as_nobody, at_once, killed

ODD_NAMES = [
    "with a space.jpg",
    "ünïcödé 猫.jpg",
    "number#1.jpg",
    "100%25.jpg",
    "a[1].jpg",
    "a*.jpg",
    "a?b.jpg",
    "a::b.jpg",
    "~a.jpg",
    "{a,b}.jpg",
    "'quoted\".jpg",
    "a&b=c;d.jpg",
    "..a.jpg",
    "猫" * 82 + ".jpg",
]


def race(task: Any, values: list[Any]) -> list[Any]:
    def attempt(value: Any) -> Any:
        try:
            task(value)
            return value
        except FileExistsError:
            return None

    with ThreadPoolExecutor(len(values)) as pool:
        return [winner for winner in pool.map(attempt, values) if winner is not None]


def name_for(root: str, name: str) -> str:
    """Return the name without what the in-memory file system alone misreads: it takes :: for a chain of URLs."""
    return name.replace("::", ":") if root.startswith("memory:") else name


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


NO_LINKS = ("EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK")


@pytest.fixture(params=NO_LINKS)
def linkless(request: pytest.FixtureRequest, disk: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a folder where `link` fails as on a file system without hard links, which cannot be mounted here."""

    def refuse(*_: object) -> None:
        code = getattr(errno, request.param)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    return disk


# Names


def test_uri_without_a_scheme_is_local() -> None:
    assert storage.is_local("/data/span-1")
    assert storage.is_local("data")
    assert storage.is_local("file:///data")
    assert not storage.is_local("gs://bucket/data")


def test_local_paths_are_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    assert storage.absolute("a/../data/") == str(tmp_path / "data")
    assert storage.absolute("~/data") == "/home/ada/data"
    assert storage.absolute("file:///data/") == "/data"


def test_other_uris_stay_as_they_are() -> None:
    assert storage.absolute("gs://bucket/data/") == "gs://bucket/data"


def test_join_uses_single_slashes() -> None:
    assert join("gs://bucket/", "/a/", "b") == "gs://bucket/a/b"
    assert join("/", "a") == "/a"


# Writing and reading


def test_file_is_read_as_it_was_written(root: str) -> None:
    storage.write(join(root, "a", "b", "c.bin"), b"\x00\xff")
    assert storage.read(join(root, "a", "b", "c.bin")) == b"\x00\xff"


def test_write_replaces_an_existing_file(root: str) -> None:
    for data in (b"a longer text", b"short", b""):
        storage.write(join(root, "a"), data)
        assert storage.read(join(root, "a")) == data


def test_reading_a_missing_file_raises_file_not_found(root: str) -> None:
    with pytest.raises(FileNotFoundError):
        storage.read(join(root, "missing"))


def test_files_and_folders_exist_after_a_write(root: str) -> None:
    assert not storage.exists(join(root, "a"))
    storage.write(join(root, "a", "b"), b"")
    assert storage.exists(join(root, "a"))
    assert storage.exists(join(root, "a", "b"))
    assert not storage.exists(join(root, "a", "c"))


@pytest.mark.parametrize("name", ODD_NAMES)
def test_file_names_are_taken_literally_by_every_operation(root: str, name: str) -> None:
    name = name_for(root, name)
    here, there = join(root, "here"), join(root, "there")
    storage.write(join(here, name), b"1")
    storage.write(join(here, "a1.jpg"), b"another")
    assert storage.exists(join(here, name))
    assert storage.read(join(here, name)) == b"1"
    assert list(storage.read_many([join(here, name)])) == [b"1"]
    with pytest.raises(FileExistsError):
        storage.create(join(here, name), b"2")
    storage.link(join(here, name), join(there, "linked", name))
    storage.move(join(here, name), join(there, name))
    assert storage.files(here) == [File("a1.jpg", 7)]
    assert storage.files(there) == [File(name, 1)]
    assert storage.files_below(there) == sorted([File(name, 1), File(f"linked/{name}", 1)])
    storage.create(join(here, name), b"22")
    storage.remove(join(there, name))
    assert storage.files(there) == []
    assert storage.files(here) == sorted([File(name, 2), File("a1.jpg", 7)])


@pytest.mark.parametrize("name", [name for name in ODD_NAMES if len(name) < 80])
def test_folder_names_are_taken_literally_by_every_operation(root: str, name: str) -> None:
    name = name_for(root, name)
    storage.write(join(root, name, "a.jpg"), b"1")
    storage.write(join(root, "a1.jpg", "a.jpg"), b"other")
    assert storage.folders(root) == sorted([name, "a1.jpg"])
    assert storage.files_below(join(root, name)) == [File("a.jpg", 1)]
    storage.remove_folder(join(root, name))
    assert storage.folders(root) == ["a1.jpg"]


# Creating


def test_create_does_not_change_an_existing_file(root: str) -> None:
    storage.create(join(root, "a"), b"first")
    with pytest.raises(FileExistsError):
        storage.create(join(root, "a"), b"second")
    assert storage.read(join(root, "a")) == b"first"


def test_concurrent_creates_have_one_winner_with_its_whole_content(root: str) -> None:
    for round_number in range(10):
        uri = join(root, f"{round_number}")
        values = [bytes([number]) * 100_000 for number in range(16)]
        winners = race(lambda data, uri=uri: storage.create(uri, data), values)
        assert len(winners) == 1
        assert storage.read(uri) == winners[0]
    assert len(storage.files_below(root)) == 10


def test_file_that_is_being_rewritten_is_always_whole(root: str) -> None:
    uri, values = join(root, "a"), [bytes([number]) * 200_000 for number in range(40)]
    storage.write(uri, values[0])
    with ThreadPoolExecutor(2) as pool:
        writing = pool.submit(lambda: [storage.write(uri, data) for data in values])
        while not writing.done():
            assert storage.read(uri) in values


# Moving, linking, removing


def test_moved_file_exists_at_its_new_place_only(root: str) -> None:
    storage.write(join(root, "a"), b"data")
    storage.move(join(root, "a"), join(root, "deep", "er", "b"))
    assert storage.files_below(root) == [File("deep/er/b", 4)]


def test_move_never_overwrites(root: str) -> None:
    storage.write(join(root, "a"), b"a")
    storage.write(join(root, "b"), b"b")
    with pytest.raises(FileExistsError):
        storage.move(join(root, "a"), join(root, "b"))
    assert storage.read(join(root, "a")) == b"a"
    assert storage.read(join(root, "b")) == b"b"


def test_moving_a_missing_file_raises_file_not_found(root: str) -> None:
    with pytest.raises(FileNotFoundError):
        storage.move(join(root, "a"), join(root, "b"))
    assert storage.files(root) == []


def test_concurrent_moves_to_one_place_have_one_winner_and_lose_none(disk: str) -> None:
    sources = [join(disk, f"source-{number}") for number in range(16)]
    for source in sources:
        storage.write(source, source.encode())
    (winner,) = race(lambda source: storage.move(source, join(disk, "target")), sources)
    assert storage.read(join(disk, "target")) == winner.encode()
    assert len(storage.files(disk)) == 16


def test_file_replaced_while_it_is_moved_is_moved(disk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux reports a file that is being replaced at this moment as missing."""
    link, answers = os.link, iter([FileNotFoundError(errno.ENOENT, "No such file or directory")] * 2)

    def link_in_the_end(*args: Any) -> None:
        for answer in answers:
            raise answer
        link(*args)

    storage.write(join(disk, "a"), b"data")
    monkeypatch.setattr(os, "link", link_in_the_end)
    storage.move(join(disk, "a"), join(disk, "b"))
    assert storage.files(disk) == [File("b", 4)]


def test_link_has_the_same_content_and_may_be_repeated(root: str) -> None:
    storage.write(join(root, "a"), b"data")
    for _ in range(2):
        storage.link(join(root, "a"), join(root, "folder", "b"))
        assert storage.read(join(root, "folder", "b")) == b"data"
    storage.remove(join(root, "a"))
    assert storage.read(join(root, "folder", "b")) == b"data"


def test_link_on_one_disk_takes_no_space(disk: str) -> None:
    storage.write(join(disk, "a"), b"data")
    for _ in range(2):
        storage.link(join(disk, "a"), join(disk, "b"))
        assert os.path.samefile(join(disk, "a"), join(disk, "b"))


def test_link_to_another_disk_is_a_copy(disk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    storage.write(join(disk, "a"), b"data")
    monkeypatch.setattr(os, "link", refuse)
    storage.link(join(disk, "a"), join(disk, "b"))
    assert storage.read(join(disk, "b")) == b"data"


def test_move_to_another_disk_is_a_copy_without_the_original(disk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def refuse_others(source: str, target: str) -> None:
        if not os.path.basename(source).startswith(storage.TEMPORARY):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        link(source, target)

    storage.write(join(disk, "a"), b"data")
    storage.write(join(disk, "c"), b"other")
    monkeypatch.setattr(os, "link", refuse_others)
    storage.move(join(disk, "a"), join(disk, "b"))
    with pytest.raises(FileExistsError):
        storage.move(join(disk, "c"), join(disk, "b"))
    assert storage.files(disk) == [File("b", 4), File("c", 5)]
    assert storage.read(join(disk, "b")) == b"data"


# Without hard links


def test_disk_without_links_creates_and_moves_exclusively(linkless: str) -> None:
    storage.create(join(linkless, "a"), b"data")
    storage.move(join(linkless, "a"), join(linkless, "new", "b"))
    for change in (
        lambda: storage.create(join(linkless, "new", "b"), b"other"),
        lambda: storage.move(join(linkless, "c"), join(linkless, "new", "b")),
    ):
        storage.write(join(linkless, "c"), b"third")
        with pytest.raises(FileExistsError):
            change()
    with pytest.raises(FileNotFoundError):
        storage.move(join(linkless, "missing"), join(linkless, "d"))
    assert storage.files_below(linkless) == [File("c", 5), File("new/b", 4)]
    assert storage.read(join(linkless, "new", "b")) == b"data"


def test_disk_without_links_has_one_winner_of_many_processes(linkless: str) -> None:
    def create(number: int) -> int:
        storage.create(join(linkless, "one"), b"%d" % number * 10_000)
        return number

    results = at_once(*(lambda number=number: create(number) for number in range(4)))
    winners = [number for number in results if isinstance(number, int)]
    assert len(winners) == 1
    assert storage.read(join(linkless, "one")) == b"%d" % winners[0] * 10_000


@pytest.mark.parametrize("operation", ["create", "move"])
def test_killed_on_a_disk_without_links_is_whole_or_nothing(linkless: str, operation: str) -> None:
    def change(target: str) -> None:
        if operation == "create":
            return storage.create(target, b"whole")
        storage.write(f"{target}-source", b"whole")
        storage.move(f"{target}-source", target)

    after = 1
    while killed(lambda name=f"{after}": change(join(linkless, name)), after):
        assert all(storage.read(join(linkless, file.name)) == b"whole" for file in storage.files(linkless))
        after += 1
    assert after > 1


@pytest.fixture
def shared() -> Iterator[Path]:
    """Return a folder that another user can reach; pytest's own are private. Only root can become that user."""
    if os.getuid() != 0:
        pytest.skip("only root can become two users")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def test_image_of_another_user_is_moved(shared: Path) -> None:
    """Where `fs.protected_hardlinks` is set, as it is by default, the system refuses to link such a file."""
    folder = shared / "collection"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    (folder / "a.jpg").write_bytes(b"data")
    (folder / "a.jpg").chmod(0o644)
    as_nobody(lambda: storage.move(str(folder / "a.jpg"), str(folder / "old" / "a.jpg")))
    assert storage.files_below(str(folder)) == [File("old/a.jpg", 4)]


def test_lock_is_seen_by_a_user_who_may_only_read_it(shared: Path) -> None:
    lock = str(shared / "lock")
    storage.write(lock, b"")
    os.chmod(lock, 0o644)

    def check(expected: bool) -> None:
        assert is_locked(lock) is expected

    as_nobody(lambda: check(False))
    with storage.locked(lock):
        as_nobody(lambda: check(True))


def test_two_checks_of_a_free_lock_both_find_it_free(disk: str) -> None:
    lock = join(disk, "lock")
    storage.write(lock, b"")
    with open(lock, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)  # as another check does
        assert not is_locked(lock)


def test_linking_a_missing_file_raises_file_not_found(root: str) -> None:
    with pytest.raises(FileNotFoundError):
        storage.link(join(root, "a"), join(root, "b"))


def test_removing_a_missing_file_is_no_error(root: str) -> None:
    storage.remove(join(root, "a"))
    storage.remove_folder(join(root, "a"))


def test_removed_folder_is_removed_with_its_content(root: str) -> None:
    for name in ("a/b", "a/c/d", "a/.tmp-unfinished", "ab/c"):
        storage.write(join(root, name), b"")
    storage.remove_folder(join(root, "a"))
    assert not storage.exists(join(root, "a"))
    assert storage.files_below(root) == [File("ab/c", 0)]


def test_concurrent_removals_of_a_folder_leave_nothing(disk: str) -> None:
    for _ in range(20):
        for number in range(30):
            storage.write(join(disk, f"a/{number % 3}/{number}"), b"")
        assert at_once(*[lambda: storage.remove_folder(join(disk, "a"))] * 2) == [None, None]
        assert not storage.exists(join(disk, "a"))


# Listing


def test_files_and_folders_are_listed_separately_and_sorted(root: str) -> None:
    for name in ("b", "a", "folder-2/x", "folder-10/x", "folder-10/y/z"):
        storage.write(join(root, name), name.encode())
    assert storage.files(root) == [File("a", 1), File("b", 1)]
    assert storage.folders(root) == ["folder-10", "folder-2"]
    assert [file.name for file in storage.files_below(root)] == ["a", "b", "folder-10/x", "folder-10/y/z", "folder-2/x"]
    assert storage.files_below(join(root, "folder-10")) == [File("x", 11), File("y/z", 13)]


def test_listing_can_be_iterated_and_stopped_early(root: str) -> None:
    names = ["a", "folder-10/x", "folder-2/y/z", "folder/.tmp-1234"]
    for name in names:
        storage.write(join(root, name), b"1")
    assert sorted(storage.iter_files_below(root)) == storage.files_below(root) == [File(name, 1) for name in names[:3]]
    assert next(storage.iter_files_below(root)).name in names[:3]
    assert list(storage.iter_files_below(join(root, "missing"))) == []


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the system does not tell what is open")
def test_listing_stopped_early_leaves_no_folder_open(disk: str) -> None:
    for name in ("a", "b", "folder/c"):
        storage.write(join(disk, name), b"1")
    before = os.listdir("/proc/self/fd")
    storage.files_below(disk)
    listing = storage.iter_files_below(disk)
    next(listing)
    assert len(os.listdir("/proc/self/fd")) > len(before)
    del listing
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize(
    ("start", "end", "listed"),
    [
        ("", "", ["2020-12", "2021-01", "2021-01_old", "2021-02", "misc"]),
        ("2021-01", "", ["2021-01", "2021-01_old", "2021-02", "misc"]),
        ("2021-01", "2021-02", ["2021-01", "2021-01_old"]),
        ("", "2021-01", ["2020-12"]),
        ("2021-03", "9999-13", []),
    ],
)
def test_folders_are_listed_within_a_range_of_names(root: str, start: str, end: str, listed: list[str]) -> None:
    for folder in ("2020-12", "2021-01", "2021-01_old", "2021-02", "misc"):
        storage.write(join(root, folder, "a"), b"")
    storage.write(join(root, "2021-01-a-file"), b"")
    assert storage.folders(root, start, end) == listed


def test_missing_folder_lists_nothing(root: str) -> None:
    missing = join(root, "missing")
    assert (storage.files(missing), storage.folders(missing), storage.files_below(missing)) == ([], [], [])


def test_file_listed_as_a_folder_is_empty(root: str) -> None:
    storage.write(join(root, "a"), b"")
    assert storage.files(join(root, "a")) == storage.folders(join(root, "a")) == []


def test_listing_ignores_unfinished_writes(root: str) -> None:
    storage.write(join(root, ".tmp-1234"), b"half a fi")
    storage.write(join(root, "folder", ".tmp-1234"), b"half a fi")
    storage.write(join(root, "folder", "whole"), b"")
    assert storage.files(root) == []
    assert storage.files_below(root) == [File("folder/whole", 0)]


def test_listing_shows_the_latest_changes(root: str) -> None:
    for number in range(3):
        storage.write(join(root, f"{number}"), b"")
        assert len(storage.files(root)) == number + 1
        assert len(storage.files_below(root)) == number + 1
    storage.remove(join(root, "0"))
    assert len(storage.files(root)) == 2
    assert not storage.exists(join(root, "0"))


def test_symbolic_link_counts_as_its_target(disk: str) -> None:
    storage.write(join(disk, "elsewhere", "image.jpg"), b"data")
    os.makedirs(join(disk, "batch"))
    os.symlink(join(disk, "elsewhere"), join(disk, "month"))
    os.symlink(join(disk, "elsewhere", "image.jpg"), join(disk, "batch", "linked.jpg"))
    os.symlink(join(disk, "nowhere"), join(disk, "batch", "dangling.jpg"))
    assert storage.folders(disk) == ["batch", "elsewhere", "month"]
    assert storage.files_below(join(disk, "month")) == [File("image.jpg", 4)]
    assert storage.files(join(disk, "batch")) == storage.files_below(join(disk, "batch")) == [File("linked.jpg", 4)]


def test_special_files_are_not_listed(disk: str) -> None:
    os.makedirs(disk)
    os.mkfifo(join(disk, "pipe.jpg"))
    assert storage.files(disk) == storage.files_below(disk) == []


def test_unreadable_folder_is_an_error_and_not_empty(disk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    storage.write(join(disk, "a", "b"), b"")
    monkeypatch.setattr(os, "scandir", refuse)
    for listing in (storage.files, storage.folders, storage.files_below):
        with pytest.raises(PermissionError):
            listing(disk)


# Bulk reads


@pytest.mark.parametrize("chunk", [1, 3, 256])
def test_read_many_keeps_the_order_of_the_request(root: str, chunk: int) -> None:
    names = [f"{number}" for number in (5, 3, 9, 0, 7, 1, 8)]
    for name in names:
        storage.write(join(root, name), name.encode())
    read = storage.read_many([join(root, name) for name in names], chunk)
    assert list(read) == [name.encode() for name in names]


def test_read_many_returns_an_error_in_place_of_an_unreadable_file(root: str) -> None:
    for name in ("a", "c"):
        storage.write(join(root, name), name.encode())
    first, second, third = storage.read_many([join(root, name) for name in ("a", "b", "c")])
    assert (first, third) == (b"a", b"c")
    assert isinstance(second, FileNotFoundError)


def test_read_many_of_nothing_returns_nothing(root: str) -> None:
    assert list(storage.read_many([])) == []


def test_in_parallel_keeps_the_order_and_raises_errors() -> None:
    assert storage.in_parallel(lambda number: number * number, range(300)) == [number * number for number in range(300)]
    with pytest.raises(ZeroDivisionError):
        storage.in_parallel(lambda number: 1 // number, [1, 0, 2])


# Full disk, killed process, locks


def test_full_disk_leaves_the_old_content_and_nothing_else(disk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write(join(disk, "a"), b"old")
    monkeypatch.setattr(os, "fsync", full_disk)
    for writing in (lambda: storage.write(join(disk, "a"), b"new"), lambda: storage.create(join(disk, "b"), b"new")):
        with pytest.raises(OSError, match="No space left"):
            writing()
    assert os.listdir(disk) == ["a"]
    assert storage.read(join(disk, "a")) == b"old"


@pytest.mark.parametrize("operation", [storage.write, storage.create])
def test_killed_write_is_seen_whole_or_not_at_all(disk: str, operation: Any) -> None:
    after = 1
    while killed(lambda name=f"{after}": operation(join(disk, name), b"whole"), after):
        assert all(storage.read(join(disk, file.name)) == b"whole" for file in storage.files(disk))
        after += 1
    assert after > 2


def test_lock_admits_one_process_at_a_time(disk: str) -> None:
    def add_one() -> None:
        for _ in range(50):
            with storage.locked(join(disk, "lock")):
                storage.write(join(disk, "sum"), b"%d" % (int(storage.read(join(disk, "sum"))) + 1))

    storage.write(join(disk, "sum"), b"0")
    assert at_once(add_one, add_one, add_one) == [None] * 3
    assert storage.read(join(disk, "sum")) == b"150"


def test_lock_is_released_when_its_holder_is_killed(disk: str) -> None:
    def die_within() -> None:
        with storage.locked(join(disk, "lock")):
            os.kill(os.getpid(), signal.SIGKILL)

    assert killed(die_within, after=99)
    with storage.locked(join(disk, "lock")):
        pass


def test_lock_on_an_object_store_does_nothing() -> None:
    with storage.locked("memory://bucket/lock"), storage.locked("memory://bucket/lock"):
        pass


def test_files_of_any_size_are_read_whole(tmp_path: Path) -> None:
    contents = [
        bytes([number]) * size for number, size in enumerate((0, 1, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20 + 7))
    ]
    for number, content in enumerate(contents):
        (tmp_path / f"{number}").write_bytes(content)
    assert list(storage.read_many([str(tmp_path / f"{number}") for number in range(len(contents))])) == contents


def test_garbage_collector_is_off_in_the_context_and_on_after_it() -> None:
    with collector_at_rest():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_garbage_collector_is_on_again_after_an_error() -> None:
    with pytest.raises(ImportError), collector_at_rest():
        raise ImportError
    assert gc.isenabled()


def test_garbage_collector_stays_off_after_an_inner_context() -> None:
    with collector_at_rest():
        with collector_at_rest():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
