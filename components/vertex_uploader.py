"""VertexUploader: registers the challenger as a new version of the one model, without deploying it.

Vertex AI's registry or, by its one parameter, that of one machine.
"""

from tfx import v1 as tfx
from tfx.types.experimental.simple_artifacts import File
from tfx.types.standard_artifacts import Model, ModelBlessing
from tfx.utils import path_utils

from adaptation import codec
from adaptation.io import storage
from adaptation.platforms.base import Upload
from adaptation.platforms.connect import connect
from adaptation.progress import report
from components import artifacts
from components.code_version import code_version


@tfx.dsl.components.component
def VertexUploader(
    model: tfx.dsl.components.InputArtifact[Model],
    blessing: tfx.dsl.components.InputArtifact[ModelBlessing],
    version: tfx.dsl.components.OutputArtifact[File],
    platform: tfx.dsl.components.Parameter[str],
    comparison: tfx.dsl.components.InputArtifact[File] = None,
    run: tfx.dsl.components.Parameter[str] = "",
    recipe: tfx.dsl.components.Parameter[str] = "",
) -> None:
    """Uploads the challenger whatever the gate says: a candidate may be deployed later, a refusal be studied.

    Args:
      model: The challenger, as the Trainer made it.
      blessing: ChampionGate's.
      version: Gets the custom property `version`, the new version's number, and `version.json`, an
        `adaptation.platforms.base.ModelVersion`.
      platform: Where to upload: the JSON text of a platform's configuration, see `adaptation.platforms.connect`.
      comparison: ModelComparator's; its `reference.json` is kept with the version, for looks at later batches.
      run: Name of this pipeline run, for the version's record.
      recipe: Digest of the user's own code, for that record too; empty for a built-in recipe.

    Failure: a retry finds the version that was made from the same model, and makes no second one.
    """
    uploaded = connect(platform).registry.upload(_upload(model, blessing, comparison, run, recipe))
    artifacts.write(version, artifacts.VERSION, codec.encode(uploaded))
    version.set_int_custom_property("version", uploaded.number)
    report(f"version {uploaded.number} is registered")


def _upload(model: Model, blessing: ModelBlessing, comparison: File | None, run: str, recipe: str) -> Upload:
    judged = artifacts.read_pairs(blessing)
    accuracies = {f"span-{span}": pairs.challenger / pairs.images for span, pairs in judged.by_span.items()}
    return Upload(
        model=path_utils.serving_model_dir(model.uri),
        key=f"{run}: {model.uri}",  # after ML Metadata was deleted, another run's model may be at the same place
        spans=tuple(judged.by_span),
        metrics=accuracies | artifacts.read_further_metrics(blessing),
        source=model.uri,
        run=run,
        code=code_version(recipe),
        champion=judged.champion,
        recalls=judged.recalls,
        comparison=storage.join(blessing.uri, artifacts.PAIRS),
        reference=artifacts.reference_uri(comparison) if comparison else "",
    )
