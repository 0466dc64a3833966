"""BatchPredictionGen: predicts a file list with the deployed model."""

from tfx import v1 as tfx
from tfx.types.experimental.simple_artifacts import File

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
    """Runs batch prediction and waits for it.

    Args:
      file_list: What FileListGen made.
      predictions: Gets the results in Vertex AI batch prediction's layout, in the folder that the custom property
        `results` names; never chosen by its age.
      platform: Where to predict: the JSON text of a platform's configuration, see `adaptation.platforms.connect`.
      model: `champion`, or the number of a version.

    Raises:
      LookupError: There is no such model.
    """
    predictor = connect(platform).predictor
    results = predictor.predict(artifacts.file_list_uri(file_list), predictions.uri, model)
    predictions.set_string_custom_property("results", results)
