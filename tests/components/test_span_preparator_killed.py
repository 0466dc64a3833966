"""SpanPreparator on Beam, killed after each of its writes in turn and run again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from adaptation.data.spans import Span
from adaptation.data.tfrecords import LabelledImage, unframe
from adaptation.io import storage
from components.span_preparator import SpanPreparator
from tests.components.test_evaluation_components import listed
from tests.worlds.components import LABELS, ComponentWorld

WRITES = ("write", "create", "move", "remove", "remove_folder")


def test_preparator_killed_after_any_write_makes_one_whole_span(tmp_path: Path, run: Any) -> None:
    for number in count(1):
        world = ComponentWorld(tmp_path / str(number))
        names = world.collect(40)
        killed = in_a_child(lambda world=world: run(preparing(world)), kill_after=number)
        assert_only_whole_spans(world)
        run(preparing(world))
        assert world.spans.spans() == [Span(1)]
        assert sorted(images_of(world)) == sorted(names)
        if not killed:
            break
    assert number > 8


def in_a_child(work: Callable[[], Any], kill_after: int) -> bool:
    """Run the work in a child process that is killed after so many writes. Return whether it was killed."""
    child = os.fork()
    if child == 0:
        try:
            die_after(kill_after)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL
    return status != 0


def die_after(writes: int) -> None:
    done = count(1)

    def deadly(write: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            write(*arguments)
            if next(done) == writes:
                os.kill(os.getpid(), signal.SIGKILL)

        return wrapped

    for name in WRITES:
        setattr(storage, name, deadly(getattr(storage, name)))


def preparing(world: ComponentWorld) -> list[Any]:
    files = listed(world)
    preparator = SpanPreparator(
        file_list=files.outputs["file_list"],
        data_root=world.spans.root,
        labels=LABELS.to_json(),
    )
    return [files, preparator]


def assert_only_whole_spans(world: ComponentWorld) -> None:
    for span in world.spans.spans():
        world.spans.verify(span)


def images_of(world: ComponentWorld) -> list[str]:
    shards = world.spans.manifest(Span(1)).shards
    contents = [(shard.path, storage.read(world.spans.shard_uri(Span(1), shard))) for shard in shards]
    return [LabelledImage.parse(data).id for path, content in contents for data in unframe(content, path)]
