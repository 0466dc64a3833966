"""VertexUploader: registers a blessed model as a new version of the one model, without putting it in service.

Vertex AI's registry or, by its one parameter, that of one machine.
"""

from tfx import v1 as tfx
from tfx.types.experimental.simple_artifacts import File
from tfx.types.standard_artifacts import ModelBlessing, PushedModel

from adaptation import codec
from adaptation.evaluation.gate import Part
from adaptation.platforms.base import Upload
from adaptation.platforms.connect import connect
from adaptation.progress import report
from components import artifacts
from components.code_version import code_version


@tfx.dsl.components.component
def VertexUploader(
    pushed_model: tfx.dsl.components.InputArtifact[PushedModel],
    blessing: tfx.dsl.components.InputArtifact[ModelBlessing],
    version: tfx.dsl.components.OutputArtifact[File],
    platform: tfx.dsl.components.Parameter[str],
    run: tfx.dsl.components.Parameter[str] = "",
    recipe: tfx.dsl.components.Parameter[str] = "",
) -> None:
    """Uploads what Pusher pushed; where the gate refused, it uploads nothing.

    Args:
      pushed_model: Pusher's.
      blessing: ChampionGate's.
      version: Gets the custom property `version`, the new version's number, or 0; where there is one also
        `version.json`, an `adaptation.platforms.base.ModelVersion`.
      platform: Where to upload: the JSON text of a platform's configuration, see `adaptation.platforms.connect`.
      run: Name of this pipeline run, for the version's record.
      recipe: Digest of the user's own code, for that record too; empty for a built-in recipe.

    Failure: a retry finds the version that was made from the same model, and makes no second one.
    """
    number = 0
    if pushed_model.get_int_custom_property("pushed"):
        source = blessing.get_string_custom_property("current_model")
        upload = _upload(pushed_model.uri, source, blessing, run, recipe)
        uploaded = connect(platform).registry.upload(upload)
        artifacts.write(version, artifacts.VERSION, codec.encode(uploaded))
        number = uploaded.number
        report(f"version {number} is registered")
    version.set_int_custom_property("version", number)


def _upload(model: str, source: str, blessing: ModelBlessing, run: str, recipe: str) -> Upload:
    verdict, comparison = artifacts.read_verdict(blessing), artifacts.read_comparison(blessing)
    metrics = {f"span-{span}": score.accuracy for span, score in verdict.challenger.items()}
    if overall := comparison.challenger.get(Part()):
        metrics |= overall.metrics
    return Upload(
        model=model,
        key=f"{run}: {source}",  # after ML Metadata was deleted, another run's model may be at the same place
        spans=tuple(sorted(verdict.challenger)),
        metrics=metrics,
        source=source,
        run=run,
        code=code_version(recipe),
    )
