"""The doctor: what is not as it should be with the model in service, and how to mend it. It changes nothing."""

from __future__ import annotations

from adaptation.platforms.base import Platform
from adaptation.platforms.vertex.config import VERTEX
from pipeline.workspace import Workspace


def findings(workspace: Workspace) -> list[str]:
    """A sentence for each thing that is there and should not be, with its mend; none where all is in order."""
    platform = workspace.platform
    return _vertex(platform) if workspace.settings.platform.kind == VERTEX else _local(platform)


def _local(platform: Platform) -> list[str]:
    champion, serving = platform.registry.champion(), list(platform.endpoint.serving())
    expected = [champion.number] if champion else []
    if serving == expected:
        return []
    served = ", ".join(f"version {number}" for number in serving) or "nothing"
    named = f"version {champion.number}" if champion else "no version"
    return [f'{served} is served, but {named} is the champion. Run "adapt train", or "adapt rollback".']


def _vertex(platform: Platform) -> list[str]:
    from adaptation.platforms.vertex.endpoint import VertexEndpoint
    from adaptation.platforms.vertex.orphans import find_orphans
    from adaptation.platforms.vertex.registry import VertexRegistry

    registry, endpoint = platform.registry, platform.endpoint
    assert isinstance(registry, VertexRegistry) and isinstance(endpoint, VertexEndpoint)
    return find_orphans(registry, endpoint)
