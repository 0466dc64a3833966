"""The training pipeline: a window of spans becomes a challenger, which may take the champion's place, or not."""

from __future__ import annotations

from collections.abc import Mapping

from tfx import v1 as tfx
from tfx.dsl.components.base.base_node import BaseNode
from tfx.types.channel import BaseChannel
from tfx.v1.extensions import google_cloud_ai_platform

from components.batch_archiver import BatchArchiver
from components.champion_gate import ChampionGate, eval_config
from components.model_comparison import ModelComparator
from components.registry_champion import ChampionGen
from components.vertex_deployer import VertexDeployer
from components.vertex_uploader import VertexUploader
from models.recipe import Channels, load_recipe
from models.user_code import digest_in
from pipeline.place import Place
from pipeline.user_code import code_uri, prepare
from pipeline.workspace.settings import Settings
from pipeline.workspace.vertex_settings import training_job

RUN_FN = "models.trainer.run_fn"
PREPROCESSING_FN = "models.transform.preprocessing_fn"
TUNER_FN = "models.tuning.tuner_fn"


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
    spec = prepare(settings)
    recipe, config = load_recipe(spec.model), {"spec": spec.to_json(), "code": code_uri(settings)}
    statistics = tfx.components.StatisticsGen(examples=examples)
    schema = tfx.components.SchemaGen(statistics=statistics.outputs["statistics"])
    validator = tfx.components.ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    )
    transform = _transform(examples, schema, config) if recipe.preprocessing_fn else None
    graph = transform.outputs["transform_graph"] if transform else None
    tuner = _tuner(examples, graph, config) if recipe.tuner else None
    champion = ChampionGen(platform=place.platform, run=place.run).with_id("Champion")
    trainer = _trainer(settings, examples, graph, tuner, champion, config)
    comparator = ModelComparator(examples=examples, model=trainer.outputs["model"], champion=champion.outputs["model"])
    evaluator = tfx.components.Evaluator(
        examples=examples,
        model=trainer.outputs["model"],
        eval_config=eval_config(recipe.eval_metrics(spec)),
    )
    gate, *deployment = _deploy(settings, trainer, comparator, evaluator, place)
    channels = Channels(
        examples=examples,
        statistics=statistics.outputs["statistics"],
        schema=schema.outputs["schema"],
        transform_graph=graph,
        model=trainer.outputs["model"],
        model_run=trainer.outputs["model_run"],
        evaluation=evaluator.outputs["evaluation"],
        blessing=gate.outputs["blessing"],
    )
    preparation = [one for one in (statistics, schema, validator, transform, tuner) if one]
    own = recipe.components(channels, spec)
    return [*preparation, champion, trainer, comparator, evaluator, gate, *deployment, *own]


def _transform(examples: BaseChannel, schema: BaseNode, config: Mapping[str, str]) -> BaseNode:
    """Return TFX's Transform, for its graph: the images are transformed where they are read, which takes less room."""
    return tfx.components.Transform(
        examples=examples,
        schema=schema.outputs["schema"],
        preprocessing_fn=PREPROCESSING_FN,
        materialize=False,
        disable_analyzer_cache=True,
        disable_statistics=True,
        custom_config=dict(config),
    )


def _tuner(examples: BaseChannel, graph: BaseChannel | None, config: Mapping[str, str]) -> BaseNode:
    return tfx.components.Tuner(
        examples=examples,
        transform_graph=graph,
        tuner_fn=TUNER_FN,
        train_args=tfx.proto.TrainArgs(),
        eval_args=tfx.proto.EvalArgs(),
        custom_config=dict(config),
    )


def _trainer(
    settings: Settings,
    examples: BaseChannel,
    graph: BaseChannel | None,
    tuner: BaseNode | None,
    champion: BaseNode,
    config: Mapping[str, str],
) -> BaseNode:
    """TFX's Trainer; on Google Cloud, where the settings give it a machine of its own, as a Vertex AI training job."""
    own_machine = settings.target.remote and settings.vertex.training.machine
    component = google_cloud_ai_platform.Trainer if own_machine else tfx.components.Trainer
    return component(
        run_fn=RUN_FN,
        examples=examples,
        transform_graph=graph,
        hyperparameters=tuner.outputs["best_hyperparameters"] if tuner else None,
        base_model=champion.outputs["model"] if settings.model.warm_start else None,
        train_args=tfx.proto.TrainArgs(),
        eval_args=tfx.proto.EvalArgs(),
        custom_config={**config, **(training_job(settings) if own_machine else {})},
    )


def _deploy(
    settings: Settings, trainer: BaseNode, comparator: BaseNode, evaluator: BaseNode, place: Place
) -> list[BaseNode]:
    gate = ChampionGate(
        comparison=comparator.outputs["comparison"],
        evaluation=evaluator.outputs["evaluation"],
        model=trainer.outputs["model"],
        floor=settings.gate.floor,
        margin=settings.gate.margin,
    )
    pusher = tfx.components.Pusher(
        model=trainer.outputs["model"],
        model_blessing=gate.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(base_directory=f"{place.root}/pushed")
        ),
    )
    uploader = VertexUploader(
        model=trainer.outputs["model"],
        blessing=gate.outputs["blessing"],
        comparison=comparator.outputs["comparison"],
        platform=place.platform,
        run=place.run,
        recipe=digest_in(code_uri(settings)),
    ).with_id("Uploader")
    deployer = VertexDeployer(
        version=uploader.outputs["version"],
        blessing=gate.outputs["blessing"],
        platform=place.platform,
        approval=settings.gate.approval,
    ).with_id("Deployer")
    archiver = BatchArchiver(
        deployment=deployer.outputs["deployment"],
        data_root=settings.data.root,
        collection_root=settings.collection.root,
    )
    return [gate, pusher, uploader, deployer, archiver]
