"""The training pipeline: a window of spans becomes a challenger, which may take the champion's place, or not."""

from __future__ import annotations

from tfx import v1 as tfx
from tfx.dsl.components.base.base_node import BaseNode
from tfx.types.channel import BaseChannel
from tfx.v1.extensions import google_cloud_ai_platform

from components.batch_archiver import BatchArchiver
from components.champion_gate import ChampionGate, eval_config
from components.vertex_deployer import VertexDeployer
from components.vertex_uploader import VertexUploader
from models.spec import TrainingSpec
from pipeline.place import Place
from pipeline.workspace.settings import Settings
from pipeline.workspace.vertex_settings import training_job

RUN_FN = "models.trainer.run_fn"


def training_pipeline(settings: Settings, examples: BaseNode, place: Place) -> tfx.dsl.Pipeline:
    """The pipeline, for either runner.

    Args:
      settings: What it is to do.
      examples: The component that ingests the spans to train on, see `ingestion`.
      place: Where it runs.
    """
    return tfx.dsl.Pipeline(
        pipeline_name=f"{settings.name}-training",
        pipeline_root=place.root,
        components=[examples, *_training(settings, examples.outputs["examples"], place)],
        metadata_connection_config=place.metadata,
        beam_pipeline_args=list(place.beam),
    )


def _training(settings: Settings, examples: BaseChannel, place: Place) -> list[BaseNode]:
    statistics = tfx.components.StatisticsGen(examples=examples)
    schema = tfx.components.SchemaGen(statistics=statistics.outputs["statistics"])
    validator = tfx.components.ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    )
    champion = _champion()
    trainer = _trainer(settings, examples, champion)
    evaluator = tfx.components.Evaluator(
        examples=examples,
        model=trainer.outputs["model"],
        baseline_model=champion.outputs["model"],
        eval_config=eval_config(),
    )
    return [statistics, schema, validator, champion, trainer, evaluator, *_deploy(settings, trainer, evaluator, place)]


def _champion() -> BaseNode:
    return tfx.dsl.Resolver(
        strategy_class=tfx.dsl.experimental.LatestBlessedModelStrategy,
        model=tfx.dsl.Channel(type=tfx.types.standard_artifacts.Model),
        model_blessing=tfx.dsl.Channel(type=tfx.types.standard_artifacts.ModelBlessing),
    ).with_id("Champion")


def _trainer(settings: Settings, examples: BaseChannel, champion: BaseNode) -> BaseNode:
    """TFX's Trainer; on Google Cloud, where the settings give it a machine of its own, as a Vertex AI training job."""
    own_machine = settings.target.remote and settings.vertex.training.machine
    config = {"spec": _spec(settings).to_json(), **(training_job(settings) if own_machine else {})}
    component = google_cloud_ai_platform.Trainer if own_machine else tfx.components.Trainer
    return component(
        run_fn=RUN_FN,
        examples=examples,
        base_model=champion.outputs["model"] if settings.model.warm_start else None,
        train_args=tfx.proto.TrainArgs(),
        eval_args=tfx.proto.EvalArgs(),
        custom_config=config,
    )


def _spec(settings: Settings) -> TrainingSpec:
    given = settings.model.model_dump(exclude={"name", "warm_start"})
    return TrainingSpec.for_model(settings.model.name, settings.labels.names, **given)


def _deploy(settings: Settings, trainer: BaseNode, evaluator: BaseNode, place: Place) -> list[BaseNode]:
    gate = ChampionGate(
        evaluation=evaluator.outputs["evaluation"],
        model=trainer.outputs["model"],
        floor=settings.gate.floor,
        tolerance=settings.gate.tolerance,
    )
    pusher = tfx.components.Pusher(
        model=trainer.outputs["model"],
        model_blessing=gate.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(base_directory=f"{place.root}/pushed")
        ),
    )
    uploader = VertexUploader(
        pushed_model=pusher.outputs["pushed_model"],
        blessing=gate.outputs["blessing"],
        platform=place.platform,
        run=place.run,
    ).with_id("Uploader")
    deployer = VertexDeployer(
        version=uploader.outputs["version"], blessing=gate.outputs["blessing"], platform=place.platform
    ).with_id("Deployer")
    archiver = BatchArchiver(deployment=deployer.outputs["deployment"], data_root=settings.data.root)
    return [gate, pusher, uploader, deployer, archiver]
