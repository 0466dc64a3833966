"""Components of the training pipeline, each in a pipeline with the components that it needs."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from ml_metadata import MetadataStore
from tfx import v1 as tfx
from tfx.types.experimental.simple_artifacts import File
from tfx.types.standard_artifacts import Model, ModelBlessing

from adaptation import codec
from adaptation.data.image_check import image_problem
from adaptation.data.labels import TooManySkipped
from adaptation.data.span_preparation import prepare
from adaptation.data.spans import Manifest, Shard, Span, SpanNotPublished
from adaptation.data.tfrecords import LabelledImage, frame, unframe
from adaptation.data.windows import InvalidWindow
from adaptation.evaluation.gate import Comparison, Deployment, Outcome, Verdict
from adaptation.evaluation.look import Reference
from adaptation.evaluation.mix import Recall
from adaptation.evaluation.paired import Pairs
from adaptation.platforms.base import Standing
from components.batch_archiver import BatchArchiver
from components.code_version import code_version
from components.span_example_gen import SpanExampleGen
from components.vertex_deployer import VertexDeployer
from components.vertex_uploader import VertexUploader
from tests.images.make import FOLDER as IMAGES
from tests.worlds.components import COMPARED, LABELS, OCTOBER, REFERENCE, ComponentWorld, judged


def importer(artifact: type, uri: Path, **properties: Any) -> Any:
    return tfx.dsl.Importer(
        source_uri=str(uri), artifact_type=artifact, custom_properties=properties, reimport=True
    ).with_id(artifact.__name__)


def publish(world: ComponentWorld, count: int = 40) -> Manifest:
    world.collect(count, start=count * len(world.spans.spans()))
    manifest = prepare(world.spans, world.batches.snapshot(OCTOBER), LABELS)
    world.batches.archive(world.batches.snapshot(OCTOBER))
    return manifest


def ingested(world: ComponentWorld, **settings: Any) -> Any:
    return SpanExampleGen(data_root=world.spans.root, **settings)


def deploying(
    world: ComponentWorld, model: str, outcome: Outcome, job: str = "job-7", approval: str = "automatic"
) -> list[Any]:
    """The Trainer's and ChampionGate's outputs, uploader and deployer."""
    made = world.root / "made" / Path(model).name / "Format-Serving"
    if not made.exists():
        made.parent.mkdir(parents=True)
        made.symlink_to(model)
    trained = importer(Model, made.parent)
    blessing = importer(ModelBlessing, judged(world.root / "verdict", outcome))
    comparison = importer(File, world.root / "verdict")
    platform, blessed = world.config.to_json(), blessing.outputs["result"]
    uploader = VertexUploader(
        model=trained.outputs["result"],
        blessing=blessed,
        platform=platform,
        comparison=comparison.outputs["result"],
        run=job,
    )
    deployer = VertexDeployer(
        version=uploader.outputs["version"], blessing=blessed, platform=platform, approval=approval
    )
    return [trained, blessing, comparison, uploader, deployer]


def archiving(world: ComponentWorld, spans: tuple[int, ...]) -> list[Any]:
    folder = world.root / "deployment"
    folder.mkdir(exist_ok=True)
    compared = Comparison.of(0, dict.fromkeys([(span, "dark") for span in spans], Pairs(neither=1)))
    ended = Deployment(1, "refused", "", Verdict(Outcome.REFUSE, "", ()), compared)
    (folder / "deployment.json").write_bytes(codec.encode(ended))
    deployment = importer(File, folder)
    return [
        deployment,
        BatchArchiver(
            deployment=deployment.outputs["result"], data_root=world.spans.root, collection_root=world.batches.root
        ),
    ]


def test_span_example_gen_links_the_window_without_copying(world: ComponentWorld, run: Any) -> None:
    publish(world), publish(world), publish(world)
    output = run([ingested(world, window="last:2")]).outputs["SpanExampleGen", "examples"]
    linked = sorted(Path(output.uri).glob("Split-*/*"))
    published = sorted(Path(world.spans.root).glob("span-[23]/*/*"))
    assert {os.stat(file).st_ino for file in linked} == {os.stat(file).st_ino for file in published}
    assert output.properties["spans"] == "2-3"


def test_span_example_gen_feeds_the_standard_components(world: ComponentWorld, run: Any) -> None:
    manifest = publish(world)
    examples = ingested(world)
    statistics = tfx.components.StatisticsGen(examples=examples.outputs["examples"])
    output = run([examples, statistics]).outputs["StatisticsGen", "statistics"]
    import tensorflow_data_validation as tfdv

    counted = {
        split: tfdv.load_stats_binary(os.path.join(output.uri, f"Split-{split}", "FeatureStats.pb"))
        for split in ("train", "eval")
    }
    assert counted["train"].datasets[0].num_examples == manifest.images_in("train")
    assert counted["eval"].datasets[0].num_examples == manifest.images_in("test")


def spoilt(world: ComponentWorld) -> Manifest:
    """Publish what an earlier version took: a span whose train split has an image that cannot be decoded."""
    manifest = publish(world)
    store, span = world.spans, Span(manifest.span)
    uri = next(store.shard_uri(span, shard) for shard in manifest.shards if shard.split == "train")
    first, *others = unframe(Path(uri).read_bytes(), uri)
    broken = dataclasses.replace(LabelledImage.parse(first), image=(IMAGES / "png-no-end.png").read_bytes())
    content = broken.to_record() + b"".join(frame(record) for record in others)
    shard = Shard.of("train", "00000-of-00001", content, len(others) + 1)
    kept = tuple(one for one in manifest.shards if one.split == "test")
    older = dataclasses.replace(manifest, shards=(*kept, shard), decoder=0)
    Path(uri).unlink()
    Path(store.shard_uri(span, shard)).write_bytes(content)
    (Path(store.folder(span)) / "manifest.json").write_bytes(older.to_json())
    return older


def test_span_example_gen_leaves_out_what_cannot_be_decoded(world: ComponentWorld, run: Any) -> None:
    manifest = spoilt(world)
    output = run([ingested(world, max_skipped=0.1)]).outputs["SpanExampleGen", "examples"]
    files = sorted(Path(output.uri).glob("Split-*/*"))
    images = [LabelledImage.parse(record).image for file in files for record in unframe(file.read_bytes(), str(file))]
    assert len(images) == manifest.images - 1 == output.properties["images"]
    assert not any(map(image_problem, images))
    assert world.spans.verify(Span(manifest.span)) == manifest


def test_span_example_gen_refuses_too_many_undecodable_images(world: ComponentWorld, run: Any) -> None:
    spoilt(world)
    with pytest.raises(TooManySkipped, match="cannot be decoded"):
        run([ingested(world, max_skipped=0.0)])


def test_span_example_gen_refuses_a_span_that_is_not_published(world: ComponentWorld, run: Any) -> None:
    publish(world)
    with pytest.raises(SpanNotPublished, match="2 of window 1-2"):
        run([ingested(world, window="1-2")])


def test_span_example_gen_refuses_content_with_another_digest(world: ComponentWorld, run: Any) -> None:
    publish(world)
    with pytest.raises(InvalidWindow, match="digest"):
        run([ingested(world, digest="0" * 64)])


def test_run_is_recorded_with_its_job_even_if_it_fails(world: ComponentWorld, run: Any, tmp_path: Path) -> None:
    publish(world)
    run([ingested(world)])
    with pytest.raises(SpanNotPublished):
        run([ingested(world, window="1-2")])
    database = tfx.orchestration.metadata.sqlite_metadata_connection_config(str(tmp_path / "metadata.sqlite"))
    runs = MetadataStore(database).get_contexts_by_type("pipeline_run")
    assert [one.custom_properties["job"].string_value for one in runs] == ["run", "run"]


def test_uploader_and_deployer_put_a_blessed_model_in_service(world: ComponentWorld, run: Any, untrained: str) -> None:
    output = run(deploying(world, untrained, Outcome.DEPLOY)).outputs["VertexDeployer", "deployment"]
    champion = world.platform.registry.find()
    assert (champion.number, champion.spans, champion.source) == (1, (1, 2), f"{world.root}/made/model")
    assert (champion.run, champion.code) == ("job-7", code_version())
    assert champion.metrics == {"span-1": 0.97, "span-2": 0.95, "top_3": 0.99}
    assert list(world.platform.endpoint.serving()) == [1]
    properties = {"deployed": 1, "version": 1, "outcome": "deploy"}
    assert {name: output.properties[name] for name in properties} == properties


def test_version_keeps_what_it_takes_to_judge_it_again(world: ComponentWorld, run: Any, untrained: str) -> None:
    run(deploying(world, untrained, Outcome.UNDECIDED))
    version = world.platform.registry.find("1")
    assert (version.champion, version.recalls) == (0, {"dark": Recall(52, 49), "light": Recall(68, 67)})
    shutil.rmtree(world.root / "verdict")
    assert codec.read(version.comparison, Comparison) == COMPARED
    assert codec.read(version.reference, Reference) == REFERENCE


def test_uploader_and_deployer_run_again_make_no_second_version(
    world: ComponentWorld, run: Any, untrained: str
) -> None:
    for _ in range(2):
        output = run(deploying(world, untrained, Outcome.DEPLOY)).outputs["VertexDeployer", "deployment"]
        assert output.properties["version"] == 1
    assert len(world.platform.registry.versions()) == 1


def test_better_version_waits_where_a_person_approves(world: ComponentWorld, run: Any, untrained: str) -> None:
    done = run(deploying(world, untrained, Outcome.DEPLOY, approval="person"))
    output = done.outputs["VertexDeployer", "deployment"]
    assert (output.properties["deployed"], output.properties["outcome"]) == (0, "deploy")
    assert world.platform.registry.champion() is None
    [record] = world.platform.registry.standings()
    assert (record.standing, record.reason) == (Standing.WAITING, "it is to deploy")
    assert "version 1 is waiting for approval: it is to deploy" in done_reason(output.uri)


def test_version_is_dropped_if_the_champion_changed_meanwhile(world: ComponentWorld, run: Any, untrained: str) -> None:
    champion = world.register(untrained)
    output = run(deploying(world, untrained, Outcome.DEPLOY)).outputs["VertexDeployer", "deployment"]
    assert (output.properties["deployed"], world.platform.registry.champion()) == (0, champion)
    said = "version 2 was dropped: version 2 was compared with no version, but version 1 is the champion now"
    assert said in done_reason(output.uri)


def done_reason(folder: str) -> str:
    return codec.read(f"{folder}/deployment.json", Deployment).reason


def test_uploader_makes_another_version_of_another_runs_model_at_the_same_place(
    world: ComponentWorld, run: Any, untrained: str
) -> None:
    numbers = [
        run(deploying(world, untrained, Outcome.DEPLOY, job)).outputs["VertexUploader", "version"].properties["version"]
        for job in ("job-7", "job-8")
    ]
    assert numbers == [1, 2]


@pytest.mark.parametrize(
    ("outcome", "standing"), [(Outcome.REFUSE, Standing.REFUSED), (Outcome.UNDECIDED, Standing.CANDIDATE)]
)
def test_deployer_leaves_the_champion_and_marks_another_outcome(
    world: ComponentWorld, run: Any, untrained: str, outcome: Outcome, standing: Standing
) -> None:
    champion = world.register(untrained)
    output = run(deploying(world, untrained, outcome)).outputs["VertexDeployer", "deployment"]
    assert (output.properties["deployed"], output.properties["outcome"]) == (0, outcome)
    registry = world.platform.registry
    assert registry.champion() == champion
    [record] = registry.standings()
    assert (record.version, record.standing, record.reason) == (2, standing, f"it is to {outcome}")
    assert record.reason in codec.read(f"{output.uri}/deployment.json", Deployment).reason


def test_batch_archiver_moves_the_snapshot_and_leaves_later_images(world: ComponentWorld, run: Any) -> None:
    first = world.collect(40)
    prepare(world.spans, world.batches.snapshot(OCTOBER), LABELS)
    later = world.collect(5, start=40)
    output = run(archiving(world, (1,))).outputs["BatchArchiver", "archive"]
    assert output.properties["images"] == 40
    assert [file.name for file in world.batches.images(OCTOBER)] == sorted(later)
    assert [file.name for file in world.batches.archived(OCTOBER)] == sorted(first)


def test_batch_archiver_moves_only_images_of_the_copied_workspace(world: ComponentWorld, run: Any) -> None:
    names = world.collect(40)
    prepare(world.spans, world.batches.snapshot(OCTOBER), LABELS)
    copy = ComponentWorld(world.root / "copy")
    for folder in (world.spans.root, world.batches.root):
        shutil.copytree(folder, copy.root / Path(folder).name)
    assert run(archiving(copy, (1,))).outputs["BatchArchiver", "archive"].properties["images"] == 40
    assert [file.name for file in world.batches.images(OCTOBER)] == sorted(names)
    assert [file.name for file in copy.batches.archived(OCTOBER)] == sorted(names)


def test_batch_archiver_leaves_images_from_elsewhere_alone(world: ComponentWorld, run: Any) -> None:
    from adaptation.data.batches import snapshot_folder

    world.collect(40)
    own = Path(world.batches.folder(OCTOBER)).rename(world.root / "own")
    prepare(world.spans, snapshot_folder(str(own), "bootstrap"), LABELS)
    assert run(archiving(world, (1,))).outputs["BatchArchiver", "archive"].properties["images"] == 0
    assert len(list(own.iterdir())) == 40
