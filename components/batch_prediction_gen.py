"""BatchPredictionGen: predicts a file list with the deployed model."""

from tfx import v1 as tfx
from tfx.types.experimental.simple_artifacts import File

from adaptation import codec
from adaptation.data.waiting import stored_predictions
from adaptation.evaluation.log import version_id
from adaptation.platforms.base import CHAMPION
from adaptation.platforms.connect import connect
from components import artifacts


@tfx.dsl.components.component
def BatchPredictionGen(
    file_list: tfx.dsl.components.InputArtifact[File],
    predictions: tfx.dsl.components.OutputArtifact[File],
    platform: tfx.dsl.components.Parameter[str],
    model: tfx.dsl.components.Parameter[str] = CHAMPION,
) -> None:
    """Run batch prediction and wait for it, unless a waiting evaluation has this version's results for these images.

    Args:
      file_list: The output of FileListGen.
      predictions: Gets the results in Vertex AI batch prediction's layout, in the folder that the custom property
        `results` names; never chosen by its age. Custom property `version`, the number of the predicting version, and
        `version.json`, an `adaptation.platforms.base.ModelVersion`.
      platform: The platform that predicts: the JSON text of its configuration, see `adaptation.platforms.connect`.
      model: `champion`, or the number of a version.

    Raises:
      LookupError: The model does not exist.
    """
    connected = connect(platform)
    version = connected.registry.find(model)  # by its number from here on: another may become the champion meanwhile
    stored = stored_predictions(artifacts.read_snapshot(file_list), version_id(version.number, version.key))
    listed = artifacts.file_list_uri(file_list)
    results = stored or connected.predictor.predict(listed, predictions.uri, str(version.number))
    predictions.set_string_custom_property("results", results)
    predictions.set_int_custom_property("version", version.number)
    artifacts.write(predictions, artifacts.VERSION, codec.encode(version))
