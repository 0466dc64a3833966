"""WriteChunks: the part of SpanPreparator that Beam spreads over workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam

from adaptation.data.span_preparation import (
    ChunkReport,
    Contents,
    Work,
    read_chunk,
    read_work,
    repeated,
    write_chunk,
    write_report,
)
from adaptation.data.spans import Span, SpanStore

_CONTENTS = "contents"


class WriteChunks(beam.PTransform):  # type: ignore[misc]
    """Write the shards of a staged span, and a report beside each chunk.

    The graph has the folder's URI and the number of chunks, whatever the number of images: Dataflow refuses a graph of
    over 10 MB. Its elements are chunks, and the digests of their images where twins are found.

    Example::

        cut = chunks(preparation, shard_bytes=128 * 2**20)
        folder = stage(preparation, cut)
        with beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])) as pipeline:
            pipeline | WriteChunks(folder, len(cut))
        manifest = finish(preparation, read_reports(folder, len(cut)))

    Attributes:
      folder: What `span_preparation.stage` returned.
      count: The number of chunks.
      processes: Whether this machine's idle processors may help with a chunk: where Beam runs in this process alone.

    Failure: a chunk is written again, with the same bytes, as often as a worker is lost.
    """

    def __init__(self, folder: str, count: int, processes: bool = False) -> None:
        super().__init__()
        self.folder = folder
        self.count = count
        self.processes = processes

    def expand(self, begin: Any) -> Any:
        """Return the numbers of the chunks whose reports are written."""
        writer = _Writer(self.folder, self.count, self.processes)
        numbers = (
            begin | "Count" >> beam.Create([self.count]) | "Number" >> beam.FlatMap(lambda count: list(range(count)))
        )
        written = (
            numbers
            | "Spread" >> beam.Reshuffle()
            | "WriteShards" >> beam.ParDo(_WriteShards(writer)).with_outputs(_CONTENTS, main="reports")
        )
        twins = written[_CONTENTS] | "ByDigest" >> beam.GroupByKey() | "FindTwins" >> beam.FlatMap(_twins)
        return (
            {"reports": written.reports, "twins": twins}
            | "ByChunk" >> beam.CoGroupByKey()
            | "Settle" >> beam.ParDo(_Settle(writer))
        )


class _Writer:
    """Writes chunks by their numbers; a worker reads what all have in common once."""

    def __init__(self, folder: str, count: int, processes: bool) -> None:
        self.folder = folder
        self.count = count
        self.processes = processes

    def write(self, work: Work, number: int, seen: Contents | None = None) -> tuple[ChunkReport, Contents] | None:
        """Write a chunk; return None if the span has been published meanwhile, and the chunk with it swept away."""
        try:
            return write_chunk(work, read_chunk(self.folder, number), seen, processes=self.processes)
        except FileNotFoundError:
            if SpanStore(work.data_root).is_published(Span(work.span)):
                return None
            raise


class _WithWork(beam.DoFn):  # type: ignore[misc]
    def __init__(self, writer: _Writer) -> None:
        super().__init__()
        self.writer = writer

    def setup(self) -> None:
        self.work = read_work(self.writer.folder)


class _WriteShards(_WithWork):
    def process(self, number: int) -> Iterator[Any]:
        if written := self.writer.write(self.work, number):
            chunk_report, contents = written
            yield number, chunk_report
            for part, some in _parts(contents, self.writer.count).items():
                yield beam.pvalue.TaggedOutput(_CONTENTS, (part, (number, some)))


class _Settle(_WithWork):
    def process(self, chunk: tuple[int, Any]) -> Iterator[int]:
        number, found = chunk
        reports, twins = (
            list(found["reports"]),
            {content: one for some in found["twins"] for content, one in some.items()},
        )
        if twins and (written := self.writer.write(self.work, number, twins)):
            reports = [written[0]]
        for chunk_report in reports:
            write_report(self.writer.folder, chunk_report)
            yield number


def _parts(contents: Contents, count: int) -> dict[int, Contents]:
    """Return the contents by part of the digests: as many parts as there are chunks, so that none outgrows a chunk."""
    parts: dict[int, dict[bytes, Any]] = {}
    for content, image in contents.items():
        parts.setdefault(int.from_bytes(content[:4]) * count >> 32, {})[content] = image
    return dict(parts)


def _twins(part: tuple[int, Iterable[tuple[int, Contents]]]) -> Iterable[tuple[int, Contents]]:
    return repeated(part[1]).items()
