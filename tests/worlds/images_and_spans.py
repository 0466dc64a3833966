"""Small worlds for the tests of the domain: images, batches, spans, and processes that are killed or start at once."""

from __future__ import annotations

import io
import itertools
import multiprocessing
import os
import random
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from PIL import Image

from adaptation.data import tfrecords
from adaptation.data.batches import Snapshot, snapshot_folder
from adaptation.data.labels import Labels
from adaptation.data.spans import SPLITS, Manifest, Shard, Span, SpanStore, count_labels
from adaptation.data.tfrecords import LabelledImage
from adaptation.io import storage

NAMES = ("cat", "ship")
LABELS = Labels(NAMES)
CHANGES = ("fsync", "link", "mkdir", "remove", "rename", "replace", "rmdir", "unlink")


def image(seed: object, kind: str = "PNG", size: tuple[int, int] = (4, 4)) -> bytes:
    """An encoded image of noise; the same seed gives the same bytes, another one others."""
    width, height = size
    noise = random.Random(str(seed)).randbytes(3 * width * height)
    encoded = io.BytesIO()
    Image.frombytes("RGB", size, noise).save(encoded, kind)
    return encoded.getvalue()


def collect(folder: str, names: Iterable[str]) -> None:
    """Puts an image of its own under each name."""
    for name in names:
        storage.write(storage.join(folder, name), image(name))


def numbered(count: int, first: int = 0) -> list[str]:
    """Image names, of each label in turn: `cat_0000.png`, `ship_0001.png` ..."""
    return [f"{NAMES[number % 2]}_{number:04d}.png" for number in range(first, first + count)]


def collected(folder: str, count: int = 12, first: int = 0) -> Snapshot:
    """The snapshot of a folder, named after it, that has got so many images."""
    collect(folder, numbered(count, first))
    return snapshot_folder(folder, storage.basename(folder))


def contents(folder: str) -> dict[str, bytes]:
    """All files below a folder by name."""
    return {file.name: storage.read(storage.join(folder, file.name)) for file in storage.files_below(folder)}


def published(store: SpanStore, key: str = "", images: int = 4, names: tuple[str, ...] = NAMES) -> Manifest:
    """A span published without preparation, of records that nobody decodes."""
    snapshot = Snapshot(key or f"batch-{len(store.spans())}", "/elsewhere", (storage.File("cat_1.png", 1),))
    span = store.claim(snapshot.key)
    manifest = unpublished(store, span, snapshot.key, images, names)
    return store.publish(manifest, snapshot)


def unpublished(store: SpanStore, span: Span, key: str, images: int = 4, names: tuple[str, ...] = NAMES) -> Manifest:
    """The manifest of a span whose shards are staged."""
    labels = [number % len(names) for number in range(images)]
    shards = []
    for split in SPLITS:
        made = [
            LabelledImage(f"{key}{split}{n}".encode(), label, f"{n}", span.number) for n, label in enumerate(labels)
        ]
        content = b"".join(one.to_record() for one in made)
        shards.append(Shard.of(split, "00000-of-00001", content, len(made)))
        store.stage(span, shards[-1], content)
    counts = {split: count_labels((names[label] for label in labels), names) for split in SPLITS}
    return Manifest(span.number, key.split(":")[0], key, counts, tuple(shards), (), 0, 0.2, names, "run", "2021-10-01")


def images_of(store: SpanStore, manifest: Manifest, split: str = "") -> list[LabelledImage]:
    """The records of a published span, of one split where it is named."""
    span = Span(manifest.span)
    uris = [store.shard_uri(span, shard) for shard in manifest.shards if not split or shard.split == split]
    return [LabelledImage.parse(data) for uri in uris for data in tfrecords.unframe(storage.read(uri), uri)]


def duplicates(values: Iterable[Any]) -> list[Any]:
    """The values that are there more than once."""
    return [value for value, count in Counter(values).items() if count > 1]


def killed(task: Callable[[], object], after: int) -> bool:
    """Does the task in a process that is killed after so many changes of the disk; says whether it came to that."""
    pid = os.fork()
    if pid == 0:
        _child(lambda: (_die_after(after), task()))
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the task failed, see standard error"
    return False


def at_once(*tasks: Callable[[], Any]) -> list[Any]:
    """The results of tasks that start together, each in a process of its own; an exception counts as a result."""
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(len(tasks)), context.SimpleQueue()
    processes = [context.Process(target=_meet, args=(barrier, results, *one)) for one in enumerate(tasks)]
    for process in processes:
        process.start()
    found = dict(results.get() for _ in processes)
    for process in processes:
        process.join()
    return [found[number] for number in range(len(tasks))]


def _meet(barrier: Any, results: Any, number: int, task: Callable[[], Any]) -> None:
    try:
        barrier.wait(30)
        results.put((number, task()))
    except Exception as error:
        traceback.print_exc()
        results.put((number, error))


def _child(task: Callable[[], object]) -> None:
    try:
        task()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _die_after(changes: int) -> None:
    done = itertools.count(1)

    def mortal(change: Callable[..., Any]) -> Callable[..., Any]:
        def changing(*args: Any, **kwargs: Any) -> Any:
            result = change(*args, **kwargs)
            if next(done) >= changes:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return changing

    for name in CHANGES:
        setattr(os, name, mortal(getattr(os, name)))
