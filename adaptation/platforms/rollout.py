"""Rollout: makes a version serve, at once or after approval, and rolls back: registry and endpoint together.

The endpoint serves a version before the alias says so: a version that cannot be served never becomes the champion. The
alias moves last, so that the change is complete exactly when it has moved; who was cut off before repeats the whole. Of
two that do this at once, the one whose alias came last has its way, with the endpoint as well.
"""

from __future__ import annotations

from enum import StrEnum

from adaptation.errors import AdaptationError
from adaptation.platforms.base import Endpoint, ModelVersion, Registry, Standing, StandingRecord, standings_of


class Approval(StrEnum):
    """Who makes a better version serve: the pipeline, or a person with `adapt models approve`."""

    AUTOMATIC = "automatic"
    PERSON = "person"


def put_in_service(registry: Registry, endpoint: Endpoint, version: ModelVersion, reason: str) -> None:
    """Serves the version, then makes it the champion.

    Args:
      registry: Has the version.
      endpoint: Serves it from now on, and nothing else.
      version: The version to serve.
      reason: Why, for the registry's records.

    Failure: repeating it ends with this version as the only champion and the only one served.
    """
    endpoint.deploy(version)
    registry.promote(version, reason)
    _serve_champion(registry, endpoint)


def roll_back(registry: Registry, endpoint: Endpoint) -> ModelVersion:
    """Make the champion before this one serve again, and return it.

    Raises:
      LookupError: There was none before; nothing was changed.

    Failure: as for `put_in_service`.
    """
    version = registry.predecessor()
    put_in_service(registry, endpoint, version, f"rolled back to version {version.number}")
    return version


def deploy_or_wait(
    registry: Registry, endpoint: Endpoint, version: ModelVersion, reason: str, approval: Approval
) -> bool:
    """Make a version serve that was found to be better, or let it wait for a person.

    If the champion is no longer the one that it was compared with, it is dropped: better than that one says nothing.

    Args:
      registry: Has the version.
      endpoint: Serves it, unless it waits.
      version: The version.
      reason: Why it is better.
      approval: Who decides.

    Returns:
      True if it is serving.

    Failure: repeat it.
    """
    champion = registry.champion()
    if version != champion and (problem := overtaken(version, champion)):
        registry.mark(version, Standing.DROPPED, problem)
    elif version != champion and approval is Approval.PERSON:
        registry.mark(version, Standing.WAITING, reason)
    else:
        put_in_service(registry, endpoint, version, reason)
        return True
    return False


def approve(registry: Registry, endpoint: Endpoint, version: ModelVersion) -> None:
    """Make a version serve that waits for approval; do nothing if it is the champion already.

    Raises:
      AdaptationError: It does not wait, or was compared with another version than the champion; nothing was changed.

    Failure: as for `put_in_service`.
    """
    champion = registry.champion()
    if champion == version:
        return _serve_champion(registry, endpoint)
    record = _pending(registry, version, Standing.WAITING)
    if problem := overtaken(version, champion):
        raise AdaptationError(f"{problem}. Train again: the gate compares with the champion of today.")
    put_in_service(registry, endpoint, version, f"approved: {record.reason}")


def reject(registry: Registry, version: ModelVersion, reason: str) -> None:
    """Record that a version that waits for approval, or is the candidate, will not serve.

    Raises:
      AdaptationError: It neither waits nor is the candidate; nothing was changed.

    Failure: repeat it.
    """
    _pending(registry, version, Standing.WAITING, Standing.CANDIDATE, Standing.REJECTED)
    registry.mark(version, Standing.REJECTED, reason)


def overtaken(version: ModelVersion, champion: ModelVersion | None) -> str:
    """Return why a version's comparison does not hold any more, as a sentence; empty if its champion still is."""
    now = champion.number if champion else 0
    if version.champion is None or version.champion == now:
        return ""
    names = [f"version {number}" if number else "no version" for number in (version.champion, now)]
    return f"version {version.number} was compared with {names[0]}, but {names[1]} is the champion now"


def _pending(registry: Registry, version: ModelVersion, *wanted: Standing) -> StandingRecord:
    record = standings_of(registry).get(version.number)
    if record is None or record.standing not in wanted:
        standing = f"its standing: {record.standing}" if record else "it has no standing"
        raise AdaptationError(
            f'version {version.number} is not pending ({standing}). "adapt models list" shows which versions are.'
        )
    return record


def _serve_champion(registry: Registry, endpoint: Endpoint) -> None:
    """Serves what the alias names; looks again, because it may have moved meanwhile."""
    served = None
    while served != (champion := registry.find()):
        endpoint.deploy(champion)
        served = champion
