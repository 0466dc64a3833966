"""Blessings: keeps the model that LatestBlessedModelStrategy finds the same as the champion in service.

The strategy takes the newest blessed model in ML Metadata. That is another one than the champion after a rollback, or
where a run died between the gate and the deployment. So before a run the champion's blessing is confirmed and those of
all other models are withdrawn.
"""

from __future__ import annotations

from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

_BLESSED = "blessed"
_MODEL_ID = "current_model_id"


def align_blessings(store: MetadataStore, champion: str | None) -> None:
    """Leaves exactly the champion blessed.

    Args:
      store: The training pipeline's metadata.
      champion: URI of the champion's Model artifact; None where no model is in service.
    """
    models = {artifact.id for artifact in store.get_artifacts_by_uri(champion)} if champion else set()
    changed = [
        _with_blessing(blessing, wanted)
        for blessing in store.get_artifacts_by_type("ModelBlessing")
        if _MODEL_ID in blessing.custom_properties
        and _is_blessed(blessing) != (wanted := blessing.custom_properties[_MODEL_ID].int_value in models)
    ]
    if changed:
        store.put_artifacts(changed)


def _is_blessed(blessing: mlmd.Artifact) -> bool:
    return bool(blessing.custom_properties[_BLESSED].int_value)


def _with_blessing(blessing: mlmd.Artifact, wanted: bool) -> mlmd.Artifact:
    blessing.custom_properties[_BLESSED].int_value = int(wanted)
    return blessing
