"""ChampionGen: outputs the champion that the registry names as a Model, for warm starts and for the gate."""

from tfx import v1 as tfx
from tfx.types.standard_artifacts import Model
from tfx.utils import path_utils

from adaptation.platforms.champion import link_champion
from adaptation.platforms.connect import connect
from adaptation.progress import report


@tfx.dsl.components.component
def ChampionGen(
    model: tfx.dsl.components.OutputArtifact[Model],
    platform: tfx.dsl.components.Parameter[str],
    run: tfx.dsl.components.Parameter[str] = "",
) -> None:
    """Look up the champion in the registry, the only record of it, and link its files.

    Args:
      model: Gets the SavedModel at TFX's place for it, and the custom property `version`: the champion's number; 0,
        and no SavedModel, before the first.
      platform: The platform of the registry: the JSON text of its configuration, see `adaptation.platforms.connect`.
      run: Name of this pipeline run: a cached result of another run may be an earlier champion.

    Raises:
      NoSuchModel: There is a champion, but its files are missing.

    Failure: a retry completes the files.
    """
    champion = link_champion(connect(platform).registry, path_utils.serving_model_dir(model.uri))
    model.set_int_custom_property("version", champion.number if champion else 0)
    report(f"version {champion.number} is the champion" if champion else "there is no champion yet")
