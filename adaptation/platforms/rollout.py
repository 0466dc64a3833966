"""Putting a version in service and going back to the one before: the registry and the endpoint together.

The endpoint serves a version before the alias says so: a version that cannot be served never becomes the champion. The
alias moves last, so that the change is complete exactly when it has moved; who was cut off before repeats the whole. Of
two that do this at once, the one whose alias came last has its way, with the endpoint as well.
"""

from __future__ import annotations

from adaptation.platforms.base import Endpoint, ModelVersion, Registry


def put_in_service(registry: Registry, endpoint: Endpoint, version: ModelVersion, reason: str) -> None:
    """Serves the version, then makes it the champion.

    Args:
      registry: Has the version.
      endpoint: Serves it from now on, and nothing else.
      version: The version to put in service.
      reason: Why, for the registry's records.

    Failure: repeating it ends with this version as the only champion and the only one served.
    """
    endpoint.deploy(version)
    registry.promote(version, reason)
    _serve_champion(registry, endpoint)


def roll_back(registry: Registry, endpoint: Endpoint) -> ModelVersion:
    """Puts the version in service that was the champion before; returns it.

    Raises:
      LookupError: There was none before; nothing was changed.

    Failure: as for `put_in_service`.
    """
    version = registry.predecessor()
    put_in_service(registry, endpoint, version, f"rolled back to version {version.number}")
    return version


def _serve_champion(registry: Registry, endpoint: Endpoint) -> None:
    """Serves what the alias names; looks again, because it may have moved meanwhile."""
    served = None
    while served != (champion := registry.find()):
        endpoint.deploy(champion)
        served = champion
