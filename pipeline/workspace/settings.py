"""The settings of one deployment: a file, `adapt.toml`, that environment variables override.

Every setting is declared here, once, with its default, its limits and its explanation. Importing this module reads
nothing; `settings_file` reads and writes files.

`ADAPT_EVALUATION__THRESHOLD=0.8` overrides `threshold` in `[evaluation]`; lists are written as JSON. All variables that
start with `ADAPT_` are settings, so that a misspelt one is refused like a misspelt key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from adaptation.platforms.vertex.config import VertexSettings
from models.recipe import built_in_recipes
from models.spec import Knobs, LabelNames

if TYPE_CHECKING:
    from adaptation.data.labels import Labels
    from adaptation.evaluation.decision import Criterion

PREFIX = "ADAPT_"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")
_MODEL = r"[^\W\d]\w*(\.[^\W\d]\w*)*"


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("should be lower-case letters, digits and hyphens, at most 100, like ships-2")
    return text


def _model(name: str) -> str:
    if not re.fullmatch(_MODEL, name):
        raise ValueError("should be a name like digits, or the path of your own module, like shop.small")
    return name


def _window(text: str) -> str:
    from adaptation.data.windows import Window  # late: it loads the storage clients

    return str(Window.parse(text))


def _webhook(url: str) -> str:
    from adaptation.notify.config import check_webhook

    return check_webhook(url)


def _topic(topic: str) -> str:
    from adaptation.notify.config import check_topic

    return check_topic(topic) if topic else ""


Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A section of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSettings(Section):
    """Spans: where they are and how images become one."""

    root: str = Field("data", min_length=1, description="folder of the spans, beside this file, absolute, or gs://")
    test_ratio: float = Field(
        0.2, gt=0, lt=1, description="share of a span's images in its test split; up to a half where 100 take more"
    )
    seed: int = Field(0, description="seed of the split; another seed tests on other images")
    shard_megabytes: int = Field(128, gt=0, description="size of a span's files")


class CollectionSettings(Section):
    """Collected images: a folder for each batch, a month such as 2021-10."""

    root: str = Field("collection", min_length=1, description="folder of the batches")
    min_images: int = Field(100, gt=0, description="new images in a batch that start an evaluation")


class LabelSettings(Section):
    """The classes, and where the true label of an image comes from."""

    names: LabelNames = Field(
        description="in the order of the model's outputs; append new ones", json_schema_extra={"uniqueItems": True}
    )
    source: Literal["prefix", "folder", "file", "pattern", "review"] = Field(
        "prefix",
        description="prefix: ship_0001.jpg; folder: ship/0001.jpg; file: a table of path,label; pattern: as set below; "
        "review: people label images of each batch",
    )
    file: str = Field("", validate_default=True, description="the table, CSV or JSON")
    pattern: str = Field(
        "", validate_default=True, description="finds the label in a name, like day_(?P<label>[a-z]+)_[0-9]+"
    )
    class_folder: Literal["", "first", "last"] = Field(
        "", description="folder in folder, cat/2021/1.jpg: the first is the class, or the last"
    )
    max_skipped: Share = Field(0.05, description="share of images without a label or unreadable from which a run fails")

    @field_validator("file")
    @classmethod
    def _goes_with_the_source(cls, file: str, info: ValidationInfo) -> str:
        return _belonging(file, "file", info, 'should name the table, because labels.source is "file"')

    @field_validator("pattern")
    @classmethod
    def _is_a_pattern(cls, pattern: str, info: ValidationInfo) -> str:
        from adaptation.data.labels import pattern_fault

        missing = 'should say where the label is, because labels.source is "pattern"'
        if _belonging(pattern, "pattern", info, missing) and (fault := pattern_fault(pattern)):
            raise ValueError(fault)
        return pattern

    @property
    def truth(self) -> Labels:
        """The true labels of images."""
        from adaptation.data.labels import Labels  # late: it loads the storage clients

        return Labels(self.names, self.source, self.file, self.class_folder, self.pattern)


class _Recipe(Section):
    name: Annotated[str, AfterValidator(_model)] = Field(
        "digits",
        description=f"{', '.join(built_in_recipes())}, or your own module, beside this file or installed: shop.small",
    )
    options: dict[str, Any] = Field({}, description="the recipe's own settings")


class ModelSettings(Knobs, _Recipe):
    """The model. A setting that is left out takes the recipe's default."""

    warm_start: bool = Field(False, description="start from the champion's weights instead of from scratch")


class TrainingSettings(Section):
    """What a training run reads."""

    window: Annotated[str, AfterValidator(_window)] = Field("all", description="its spans: all, last:2, or 1,3,9-11")
    ingestion: Literal["spans", "import"] = Field(
        "spans", description="spans: links the window's files; import: TFX's ImportExampleGen reads them"
    )


def _belonging(value: str, to: str, info: ValidationInfo, missing: str) -> str:
    """Return the value of a setting that one source of labels needs, and no other has."""
    source = info.data.get("source")
    if source == to and not value:
        raise ValueError(missing)
    if source and source != to and value:
        raise ValueError(f'should be left out, because labels.source is "{source}"; or set that to "{to}"')
    return value


class EvaluationSettings(Section):
    """When a batch counts as a change that needs retraining."""

    threshold: float = Field(0.9, gt=0, le=1, description="accuracy that the model must reach")
    rule: Literal["evidence", "drop", "point", "wilson"] = Field(
        "evidence",
        description="evidence: enough new images say that it is below; drop: below its own accuracy minus drop; "
        "point, wilson: one batch's accuracy, or its interval, is below; these retrain on noise",
    )
    false_alarms: float = Field(
        0.2, gt=0, lt=1, description="accepted chance of any needless retraining in 36 batches; 0.05 for the careful"
    )
    drop: Share = Field(0.05, description="for the rule drop: accepted fall below the accuracy on the test splits")
    ignore_mix: bool = Field(False, description="keep a model if only the mix of classes has changed, not its skill")
    min_images: int = Field(30, gt=0, description="with fewer images nothing is decided")

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of the same names that PerformanceEvaluator has."""
        return {**self.model_dump(), "ignore_mix": int(self.ignore_mix)}

    @property
    def criterion(self) -> Criterion:
        """What decides, as `decision.decide` takes it."""
        from adaptation.evaluation.decision import Criterion, Rule  # numpy is behind it

        rule = Rule(self.rule)
        return Criterion(self.threshold, rule, self.min_images, self.false_alarms, self.drop, self.ignore_mix)


class GateSettings(Section):
    """What a new model must reach before it replaces the champion."""

    floor: Share = Field(0.8, description="accuracy on every span's test split; refused if surely below it")
    margin: Share = Field(0.02, description="how much worse than the champion it may be on the older spans together")
    approval: Literal["automatic", "person"] = Field(
        "automatic", description='who deploys a better model; person: with "adapt models approve"'
    )


class NotifySettings(Section):
    """Who hears of events: retrainings, failures, deployments, batches to look at (docs/notifications.md)."""

    webhooks: tuple[Annotated[str, AfterValidator(_webhook)], ...] = Field(
        (), description="https addresses that get each event as a CloudEvent"
    )
    secret: str = Field("", description="name of the environment variable with the secret that signs them")
    pubsub: Annotated[str, AfterValidator(_topic)] = Field("", description="projects/PROJECT/topics/TOPIC of Pub/Sub")
    command: tuple[str, ...] = Field((), description="a command and its arguments; gets each event on its input")
    apprise: str = Field("", description="name of the environment variable with apprise's URLs: chats, mail")


class FunctionSettings(Section):
    """The Cloud Function that starts evaluations, where platform.kind is vertex."""

    schedule: str = Field("*/15 * * * *", min_length=1, description="when it looks for new images: cron, UTC")


class ReviewSettings(Section):
    """How many images people label, where labels come from a review."""

    audit: int = Field(30, gt=0, description="images of a batch that are proposed for review when nothing seems wrong")


class PlatformSettings(Section):
    """Where the pipelines run."""

    remote: ClassVar[bool] = False

    kind: Literal["local", "vertex"] = Field("local", description="local: this machine; vertex: Google Cloud")
    root: str = Field(".", min_length=1, description="folder of jobs, models, metadata and pipeline outputs")


class Settings(BaseSettings):
    """All settings of one deployment; folders are absolute. `load` makes it."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter="__")
    _file: Path = PrivateAttr()

    name: Annotated[str, AfterValidator(_name)] = Field(
        "digits",
        description="prefix of the pipelines' names",
        json_schema_extra={"pattern": f"^{_NAME.pattern}$"},
    )
    data: DataSettings = DataSettings()
    collection: CollectionSettings = CollectionSettings()
    labels: LabelSettings
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    review: ReviewSettings = ReviewSettings()
    gate: GateSettings = GateSettings()
    notify: NotifySettings = NotifySettings()
    platform: PlatformSettings = PlatformSettings()
    vertex: VertexSettings = VertexSettings()
    function: FunctionSettings = FunctionSettings()

    @property
    def file(self) -> Path:
        """Absolute path of the file that they were read from."""
        return self._file

    @property
    def target(self) -> PlatformSettings | VertexSettings:
        """The section of the platform that `platform.kind` names, with its root and `remote`."""
        sections: dict[str, PlatformSettings | VertexSettings] = {"local": self.platform, "vertex": self.vertex}
        return sections[self.platform.kind]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the environment before what `load` found in the file."""
        return _Environment(settings_cls), init_settings


class _Environment(EnvSettingsSource):
    """Pydantic's source that also finds the fields of plain dataclasses, so that their lists are JSON, too."""

    def next_field(self, field: FieldInfo | Any | None, key: str, case_sensitive: bool | None = None) -> Any:
        section = getattr(field, "annotation", None)
        if isinstance(section, type) and is_dataclass(section):
            return declared(section).get(key)
        return super().next_field(field, key, case_sensitive)


@cache
def declared(section: type) -> Mapping[str, FieldInfo]:
    """Return the settings and sections that a section declares, by name; of a model or a dataclass."""
    if issubclass(section, BaseModel):
        return dict(section.model_fields)
    hints = get_type_hints(section)
    return {field.name: FieldInfo.from_annotated_attribute(hints[field.name], field) for field in fields(section)}  # type: ignore[arg-type]
