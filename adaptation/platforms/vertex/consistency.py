"""Finds what interrupted or concurrent work has left on Vertex AI, and describes it; changes nothing."""

from __future__ import annotations

from collections import defaultdict

from adaptation.platforms.vertex.client import Ambiguous
from adaptation.platforms.vertex.endpoint import VertexEndpoint
from adaptation.platforms.vertex.registry import VertexRegistry


def find_orphans(registry: VertexRegistry, endpoint: VertexEndpoint) -> list[str]:
    """Return a sentence for each thing left over, with what to do; none if all is in order."""
    try:
        return [*_endpoint_orphans(registry, endpoint), *_registry_orphans(registry)]
    except Ambiguous as error:
        return [str(error)]


def _endpoint_orphans(registry: VertexRegistry, endpoint: VertexEndpoint) -> list[str]:
    champion, serving = registry.champion(), endpoint.serving()
    found = [
        f"version {number} is deployed without traffic, and paid for. Deploying any version takes it out."
        for number in endpoint.idle()
    ]
    for number in serving:
        if champion is None or number != champion.number:
            name = f"version {champion.number}" if champion else "no version"
            found.append(f"version {number} serves, but {name} is the champion. Deploy the right one.")
    if champion and not serving:
        found.append(f"version {champion.number} is the champion, but nothing serves. Deploy it.")
    return found


def _registry_orphans(registry: VertexRegistry) -> list[str]:
    by_key: dict[str, list[int]] = defaultdict(list)
    for version in registry.versions():
        by_key[version.key or str(version.number)].append(version.number)
    return [
        f"versions {', '.join(map(str, numbers))} were made from the same run. Delete all but {numbers[0]}."
        for numbers in by_key.values()
        if len(numbers) > 1
    ]
