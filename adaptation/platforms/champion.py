"""The champion's files, for a training or a comparison. Only the registry says which version is the champion."""

from __future__ import annotations

from adaptation.io import storage
from adaptation.platforms.base import SAVED_MODEL, ModelVersion, NoSuchModel, Registry


def link_champion(registry: Registry, folder: str) -> ModelVersion | None:
    """Link the champion's SavedModel into a folder; before the first champion return None and leave the folder empty.

    Args:
      registry: The registry of the model.
      folder: Target, whose content is replaced: hard links on one disk, server-side copies on object storage.

    Raises:
      NoSuchModel: There is a champion, but its files are missing.

    Failure: repeat it. `saved_model.pb` comes last, so that a folder that has it is complete.
    """
    champion = registry.champion()
    storage.remove_folder(folder)  # an artifact of this name may be there, from before the metadata was deleted
    if champion is None:
        return None
    names = [file.name for file in storage.files_below(champion.uri)] if champion.uri else []
    if SAVED_MODEL not in names:
        raise NoSuchModel(
            f"version {champion.number} is the champion, but its folder {champion.uri!r} holds no SavedModel "
            f'({SAVED_MODEL} is missing). Restore it from a copy, or go back to another version with "adapt rollback".'
        )

    def link(name: str) -> None:
        storage.link(storage.join(champion.uri, name), storage.join(folder, name))

    storage.in_parallel(link, (name for name in names if name != SAVED_MODEL))
    link(SAVED_MODEL)
    return champion
