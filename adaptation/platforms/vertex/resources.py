"""The fields of Vertex AI's resources that this package reads, with their types: responses are checked before use.

Source: the REST reference, cloud.google.com/vertex-ai/docs/reference/rest. JSON has 64-bit integers as text there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

import msgspec

_Count = int | Annotated[str, msgspec.Meta(pattern="^[0-9]+$")]


@dataclass(frozen=True)
class _Error:
    message: str = ""
    code: int = 0


@dataclass(frozen=True)
class _Task:
    taskName: str = ""
    state: str = ""
    startTime: datetime | None = None
    endTime: datetime | None = None


@dataclass(frozen=True)
class _JobDetail:
    taskDetails: tuple[_Task, ...] = ()


@dataclass(frozen=True)
class _RuntimeConfig:
    parameterValues: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _OutputInfo:
    gcsOutputDirectory: str = ""


@dataclass(frozen=True)
class _CompletionStats:
    successfulCount: _Count = 0


@dataclass(frozen=True)
class _Deployed:
    id: str


@dataclass(frozen=True)
class _DeployedModel(_Deployed):
    model: str = ""
    modelVersionId: _Count = ""
    createTime: str = ""

    def __post_init__(self) -> None:
        if not self.modelVersionId and not self.model.rpartition("@")[2].isdecimal():
            raise ValueError("deployed model without a version")


@dataclass(frozen=True)
class _Response:
    modelVersionId: _Count = ""
    deployedModel: _Deployed | None = None


@dataclass(frozen=True, kw_only=True)
class _Fields:
    done: bool = False
    error: _Error | None = None
    response: _Response | None = None
    state: str = ""
    createTime: str = ""
    endTime: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    runtimeConfig: _RuntimeConfig | None = None
    jobDetail: _JobDetail | None = None
    outputInfo: _OutputInfo | None = None
    completionStats: _CompletionStats | None = None
    artifactUri: str = ""
    versionAliases: tuple[str, ...] = ()
    versionDescription: str = ""
    versionCreateTime: str = ""
    deployedModels: tuple[_DeployedModel, ...] = ()
    trafficSplit: Mapping[str, int] = field(default_factory=dict)
    etag: str = ""


@dataclass(frozen=True, kw_only=True)
class Answer(_Fields):
    """What a method returns: a resource, an operation, or nothing."""

    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Resource(_Fields):
    """A resource of any kind; each kind has some of the fields, and all have a name."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Version(_Fields):
    """A version of a model."""

    name: str
    versionId: _Count


@dataclass(frozen=True)
class Page:
    """A page of a listing."""

    nextPageToken: str = ""
    models: tuple[Version, ...] = ()
    endpoints: tuple[Resource, ...] = ()
    pipelineJobs: tuple[Resource, ...] = ()
    batchPredictionJobs: tuple[Resource, ...] = ()
    operations: tuple[Resource, ...] = ()
