"""WriteChunks: Beam's part of the preparation, in this process, on workers of their own, and as Dataflow gets it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, WorkerOptions
from apache_beam.runners.dataflow.internal import apiclient

from adaptation.data.batches import Snapshot, snapshot_folder
from adaptation.data.labels import Labels
from adaptation.data.span_preparation import Preparation, begin, chunks, finish, prepare, read_reports, stage
from adaptation.data.spans import Manifest, Span, SpanStore
from adaptation.data.splits import Split
from adaptation.io import storage
from components.write_chunks import WriteChunks
from emulators.storage.emulator import StorageEmulator
from pipeline.workspace.settings_file import load
from pipeline.workspace.vertex_settings import beam_arguments
from tests.worlds.images import collect, image

LABELS = Labels(("cat", "ship"))
HALF = Split(ratio=0.5)
EVERY_SETTING = Path(__file__).parent.parent / "settings/valid/every_setting.toml"


@contextlib.contextmanager
def worker_pool(folder: Path) -> Iterator[str]:
    """Run Beam's pool of worker processes; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}"]
    python = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # the pool starts its workers as `python`
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "PATH": python}
    with (folder / "workers.log").open("wb") as log:
        pool = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        wait_for(port, pool)
        yield f"127.0.0.1:{port}"
    finally:
        pool.terminate()
        pool.wait(60)


def test_workers_in_processes_of_their_own_write_what_one_process_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StorageEmulator() as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        emulator.create_bucket("shop")
        snapshot = with_twins("gs://shop/collection/2021-10")
        with worker_pool(tmp_path) as address:
            external = ["--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=EXTERNAL"]
            spread = prepared_on_beam("gs://shop/data", snapshot, [*external, f"--environment_config={address}"])
        alone = prepare(SpanStore("gs://shop/alone"), snapshot, LABELS, HALF, shard_bytes=400, max_skipped=1.0)
        assert spread.digest == alone.digest
        assert len(spread.shards) > 8
        assert len(spread.skipped) == 4  # twins, in whatever chunk they are
        assert not storage.exists("gs://shop/data/_staging/span-1")


def test_graph_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    few, many = (graph(unstaged(tmp_path, count), count // 500) for count in (10**3, 10**6))
    assert abs(len(many) - len(few)) < 0.1 * len(few)
    assert len(many) < 2**16


def test_job_for_dataflow_has_every_setting_of_its_workers(tmp_path: Path) -> None:
    settings = load(EVERY_SETTING)
    options = PipelineOptions([*beam_arguments(settings), "--dry_run=True", "--no_auth", "--job_name=spans"])
    pipeline = beam.Pipeline(options=options)
    pipeline | WriteChunks("gs://shop/data/_staging/span-1/_work", 3)
    job = pipeline.run().job
    environment = apiclient.Environment(
        [], options, "2.0", "gs://shop/graph.pb", proto_pipeline=job.proto_pipeline
    ).proto
    (pool,) = environment.worker_pools
    vertex = settings.vertex
    assert environment.service_account_email == vertex.service_account
    assert environment.service_kms_key_name == vertex.encryption_key
    assert pool.machine_type == vertex.workers.machine
    assert (pool.num_workers, pool.autoscaling_settings.max_num_workers) == (2, 20)
    assert pool.subnetwork == vertex.workers.subnetwork
    assert pool.network == "shop"
    assert pool.ip_configuration.name == "WORKER_IP_PRIVATE"
    assert [one.container_image for one in pool.sdk_harness_container_images] == [vertex.image]
    assert options.view_as(WorkerOptions).sdk_container_image == vertex.image
    assert {"team=vision", f"continuous-adaptation={settings.name}"} <= set(options.get_all_options()["labels"])


def wait_for(port: int, pool: subprocess.Popen[bytes]) -> None:
    while pool.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise AssertionError(f"the pool of workers ended: {pool.returncode}")


def with_twins(folder: str) -> Snapshot:
    """Collect 40 images and four that repeat others, so that some are in other chunks."""
    collect(folder, [f"{label}_{number:04d}.png" for label in LABELS.names for number in range(20)])
    for number in range(4):
        storage.write(storage.join(folder, f"ship_twin_{number}.png"), image(f"cat_{number:04d}.png"))
    return snapshot_folder(folder, "2021-10")


def prepared_on_beam(data_root: str, snapshot: Snapshot, arguments: list[str]) -> Manifest:
    store = SpanStore(data_root)
    preparation = begin(store, snapshot, LABELS, HALF, 1.0, "")
    cut = chunks(preparation, 400)
    folder = stage(preparation, cut)
    with beam.Pipeline(options=PipelineOptions(arguments)) as pipeline:
        pipeline | WriteChunks(folder, len(cut))
    return finish(preparation, read_reports(folder, len(cut)))


def unstaged(root: Path, count: int) -> str:
    """Cut and stage so many images that do not exist, in chunks of 500; return the folder."""
    images = tuple(storage.File(f"cat_{number:07d}.png", 1) for number in range(count))
    snapshot = Snapshot("2021-10", "gs://shop/collection/2021-10", images)
    preparation = Preparation(str(root / f"{count}"), Span(1), snapshot, LABELS, HALF, 1.0, "")
    cut = chunks(preparation, 500)
    assert len(cut) == count // 500
    return stage(preparation, cut)


def graph(folder: str, count: int) -> bytes:
    pipeline: Any = beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"]))
    pipeline | WriteChunks(folder, count)
    data: bytes = pipeline.to_runner_api().SerializeToString()
    return data
