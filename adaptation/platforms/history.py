"""The history of the model's versions: which one served when and why, and what was decided about the others."""

from __future__ import annotations

from dataclasses import dataclass

from adaptation.platforms.base import CHAMPION, ModelVersion, Promotion, Registry, StandingRecord, trail_of

ROLLED_BACK = "rolled back"


@dataclass(frozen=True)
class VersionEvent:
    """What a version became.

    Attributes:
      version: Its number.
      standing: `champion`, `rolled back`, or a `Standing`.
      reason: Why.
      time: Since when; ISO 8601, UTC; empty if unknown.
      until: Of a champion, until when it served; empty if it does, or if unknown.
      run: Name of the pipeline run that made the version.
      code: Version of the code that made it.
    """

    version: int
    standing: str
    reason: str
    time: str
    until: str
    run: str
    code: str


def history(registry: Registry) -> list[VersionEvent]:
    """Return the events of all versions, the first first."""
    versions = {version.number: version for version in registry.versions()}
    promotions, standings = list(registry.promotions()), list(registry.standings())
    events: list[VersionEvent] = [_decided(one, versions) for one in standings if not one.promotions]
    for index, promotion in enumerate(promotions):
        following = promotions[index + 1] if index + 1 < len(promotions) else None
        if promotion.version in trail_of(one.version for one in promotions[:index]):
            events.append(_rolled_back(promotions[index - 1], promotion, versions))
        until = following.time if following else ""
        events.append(_event(promotion.version, CHAMPION, promotion.reason, promotion.time, versions, until))
        events += [_decided(one, versions) for one in standings if one.promotions == promotion.number]
    return events


def _decided(record: StandingRecord, versions: dict[int, ModelVersion]) -> VersionEvent:
    return _event(record.version, record.standing, record.reason, record.time, versions)


def _rolled_back(before: Promotion, promotion: Promotion, versions: dict[int, ModelVersion]) -> VersionEvent:
    reason = f"version {promotion.version} is the champion again"
    return _event(before.version, ROLLED_BACK, reason, promotion.time, versions)


def _event(
    number: int, standing: str, reason: str, time: str, versions: dict[int, ModelVersion], until: str = ""
) -> VersionEvent:
    """Return the event; a version that was deleted has lost its run and its code."""
    version = versions.get(number)
    run, code = (version.run, version.code) if version else ("", "")
    return VersionEvent(number, standing, reason, time, until, run, code)
