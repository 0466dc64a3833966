"""Settings files: read with all problems reported at once, written with every setting explained.

`settings` declares the settings.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeGuard

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError

from adaptation.errors import AdaptationError, AlreadyExists
from adaptation.io import storage
from models.spec import IMAGENET, NO_WEIGHTS
from pipeline.workspace.settings import PREFIX, Section, Settings, declared

SETTINGS_FILE = "adapt.toml"
LAST_LINE = "# end of adapt.toml"
_SECTION = "should be a section, written [{key}]"
_WORDS = {"tuple_type": "should be a list", "model_type": _SECTION, "dataclass_type": _SECTION}
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_INLINE = 80
_PATTERN = "[]*?\\"
_SERVICE = re.compile(  # source: kubernetes.io/docs/concepts/services-networking/service, "Environment variables"
    rf"{PREFIX}(?!.*__)([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_[A-Z]+(_(PROTO|PORT|ADDR))?)?)"
)
_ADDRESS = re.compile(r"(tcp|udp|sctp)(://|$)|[0-9a-fA-F.:]+$")
RENAMED = {  # names of settings in 0.1.0, whose files are still read
    "vertex.serving_image": "vertex.container.image",
    "vertex.serving_machine": "vertex.serving.machine",
    "vertex.prediction_machine": "vertex.prediction.machine",
    "vertex.training_machine": "vertex.training.machine",
    "vertex.accelerator": "vertex.training.accelerator",
    "vertex.accelerators": "vertex.training.accelerators",
    "vertex.poll_seconds": "vertex.retries.poll_interval",
}


REMOVED = {  # settings of 0.1.0 that no setting of today means
    "gate.tolerance": "On the newest span the challenger must be better now; gate.margin says how much worse it may be "
    "on the older ones. Remove it, and set gate.margin if 0.02 does not suit you.",
}


class NoSettings(AdaptationError, FileNotFoundError):
    """There is no settings file."""


class InvalidSettings(AdaptationError, ValueError):
    """Unusable settings or prices; the message lists every problem."""


def locate_settings(path: Path) -> Path:
    """Return the settings file of a path: the path itself, or `adapt.toml` in that (future) folder."""
    return path if path.is_file() or (path.suffix == ".toml" and not path.is_dir()) else path / SETTINGS_FILE


def load(path: str | Path) -> Settings:
    """Return the settings of a file, with the environment's overrides.

    Relative folders are relative to the file's folder, wherever a command is started.

    Raises:
      NoSettings: There is no such file.
      InvalidSettings: It is not TOML, or keys or values are wrong; the message has all of them.
    """
    file = Path(os.path.abspath(Path(path).expanduser()))
    values = _read(file)
    _rename(values)
    problems = [_no_such(key) for key in values if key not in Settings.model_fields] + _unknown_variables()
    try:
        settings = Settings(**_known(values))
    except ValidationError as error:
        problems += map(_problem, error.errors())
    except SettingsError as error:
        problems.append(_unreadable_variable(error))
    if not problems:
        placed = _placed(settings, file)
        problems += _places_that_are_patterns(placed)
    if problems:
        raise InvalidSettings("\n  ".join([f"{file} is invalid. Fix:", *problems]))
    return placed


def write_settings(path: str | Path, labels: Sequence[str], overrides: Mapping[str, object] | None = None) -> Path:
    """Write a new settings file and return its absolute path; the arguments are those of `render`.

    Raises:
      AlreadyExists: The file exists; it is not changed.
    """
    file = Path(os.path.abspath(Path(path).expanduser()))
    text = render(labels, overrides)
    try:
        storage.create(str(file), text.encode())
    except FileExistsError as error:
        raise AlreadyExists(f"{file} exists. Edit it, or choose another folder.") from error
    return file


def render(labels: Sequence[str], overrides: Mapping[str, object] | None = None) -> str:
    """Return a settings file with every setting explained: the defaults, except for `overrides`.

    Args:
      labels: Names of the classes.
      overrides: Values by dotted key, like {"evaluation.threshold": 0.8}; None: the default.

    Raises:
      InvalidSettings: There is no such key.
    """
    values = {**(overrides or {}), "labels.names": tuple(labels)}
    unknown = [key for key in values if key not in _keys()]
    if unknown:
        raise InvalidSettings("\n".join(map(_no_such, unknown)))
    parts = [_lines("", _values_of(Settings), values)]
    for section, kind in SECTIONS.items():
        parts.append(f"# {kind.__doc__}\n[{section}]\n{_lines(section + '.', _values_of(kind), values)}")
    return "\n".join([*parts, f"{LAST_LINE}\n"])


def is_whole(file: Path) -> bool:
    """Return whether a settings file ends as `render` ends it: one that was cut off may still be TOML."""
    return file.read_bytes().rstrip().endswith(LAST_LINE.encode())


def _is_section(kind: object) -> TypeGuard[type]:
    return isinstance(kind, type) and (issubclass(kind, Section) or is_dataclass(kind))


def _sections(kind: type, prefix: str = "") -> dict[str, type]:
    """Return the sections below one, by their dotted names, in the order of the file."""
    found: dict[str, type] = {}
    for name, field in declared(kind).items():
        if _is_section(field.annotation):
            found |= {prefix + name: field.annotation, **_sections(field.annotation, f"{prefix}{name}.")}
    return found


def _values_of(section: type) -> dict[str, FieldInfo]:
    """Return what a section declares except for the sections in it."""
    return {name: field for name, field in declared(section).items() if not _is_section(field.annotation)}


SECTIONS = _sections(Settings)


def _keys() -> list[str]:
    return [*_values_of(Settings), *(f"{name}.{key}" for name, kind in SECTIONS.items() for key in _values_of(kind))]


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise NoSettings(
            f'there is no settings file {file}. Make one with "adapt init", or name the one that you have.'
        )
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidSettings(f"{file} is not valid TOML: {error}. Fix that place.") from error


def _rename(values: dict[str, Any]) -> None:
    """Move settings to their new names; an old name beside the new one stays, and is refused."""
    for old, new in RENAMED.items():
        (before, key), (after, name) = _place(values, old), _place(values, new)
        if key in before and name not in after:
            after[name] = before.pop(key)


def _place(values: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """Return the section of a setting, made if missing, and the setting's name in it."""
    *sections, name = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            return {}, name
    return values, name


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return all known sections; absent ones are empty, so that a missing setting is named by its full key."""
    return {section: {} for section in SECTIONS if "." not in section} | {
        key: values[key] for key in values if key in Settings.model_fields
    }


def _no_such(key: str) -> str:
    if key in RENAMED:
        return f"{key}: there is no such setting any more. It is now {RENAMED[key]}."
    if key in REMOVED:
        return f"{key}: there is no such setting any more. {REMOVED[key]}"
    near = _nearest(key)
    section = key.rpartition(".")[0]
    known = [name for name in (*SECTIONS, *_keys()) if name.rpartition(".")[0] == section]
    return f"{key}: there is no such setting. " + (f"Did you mean {near}?" if near else f"Known: {', '.join(known)}.")


def _nearest(key: str) -> str | None:
    """Return the known key or section with the nearest last part; one in the same section comes first."""
    section, _, last = key.rpartition(".")
    known = [*_keys(), *SECTIONS]
    beside = {name.rpartition(".")[2]: name for name in known if name.rpartition(".")[0] == section}
    anywhere = {name.rpartition(".")[2]: name for name in known}
    for names in (beside, anywhere):
        if close := get_close_matches(last, names, n=1):
            return names[close[0]]
    return None


def _unknown_variables() -> list[str]:
    keys = {name: _key_of(name) for name in sorted(os.environ) if name.upper().startswith(PREFIX)}
    return [
        f"{_no_such(key)} (environment variable {name})"
        for name, key in keys.items()
        if key != "name" and key.split(".")[0] not in SECTIONS and name not in service_variables()
    ]


def service_variables() -> list[str]:
    """Return the environment's variables that Kubernetes sets for a service named adapt; they are no settings."""
    return [name for name, value in sorted(os.environ.items()) if _SERVICE.fullmatch(name) and _ADDRESS.match(value)]


def _key_of(variable: str) -> str:
    return variable[len(PREFIX) :].lower().replace("__", ".")


def _unreadable_variable(error: SettingsError) -> str:
    text = getattr(error.__cause__, "doc", None)
    names = [name for name, value in os.environ.items() if value == text and name.upper().startswith(PREFIX)]
    if not names:
        return str(error)
    return f"{', '.join(names)} = {_shown(text)}: {_as_variable(_key_of(names[0]))}"


def _as_variable(key: str) -> str:
    """Say how a setting that is no text is given in a variable."""
    if key in SECTIONS:
        example = f"{PREFIX}{key.upper().replace('.', '__')}__{next(iter(_values_of(SECTIONS[key]))).upper()}"
        return f"{key} is a section. Give each of its settings a variable, like {example}"
    default = _default(key)
    example = '{"team": "vision"}' if isinstance(default, Mapping) else '["cat", "dog"]'
    return f"a {'table' if isinstance(default, Mapping) else 'list'} is written as JSON, like {example}"


def _default(key: str) -> object:
    section, _, name = key.rpartition(".")
    field = _values_of(SECTIONS[section] if section else Settings).get(name)
    return field.get_default(call_default_factory=True) if field else None


def _problem(error: ErrorDetails) -> str:
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])[1:]
    if error["type"] in _UNKNOWN:
        return _no_such(key) + _origin(key)
    if error["type"] == "missing":
        return f"{key} is missing, and has no default"
    return f"{key} = {_shown(error['input'])}: {_allowed(key, error)}{_origin(key)}"


def _allowed(key: str, error: ErrorDetails) -> str:
    words = _WORDS.get(error["type"])
    return words.format(key=key) if words else re.sub(r"^(Value error,|Input|String|Tuple) ", "", error["msg"])


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _INLINE else text[:_INLINE] + " ..."


def _origin(key: str) -> str:
    names = [name for name in os.environ if name.upper().startswith(PREFIX) and _key_of(name) == key]
    return f" (environment variable {names[0]})" if names else ""


def _placed(settings: Settings, file: Path) -> Settings:
    def moved(section: Section, key: str) -> Section:
        return section.model_copy(update={key: _absolute(file.parent, getattr(section, key))})

    placed = settings.model_copy(
        update={
            "data": moved(settings.data, "root"),
            "collection": moved(settings.collection, "root"),
            "labels": moved(settings.labels, "file") if settings.labels.file else settings.labels,
            "model": settings.model
            if settings.model.weights in (None, NO_WEIGHTS, IMAGENET)
            else moved(settings.model, "weights"),
            "platform": moved(settings.platform, "root"),
        }
    )
    placed._file = file
    return placed


def _places_that_are_patterns(settings: Settings) -> list[str]:
    """Return a problem for each folder whose files TFX's components find by a pattern that begins with its path."""
    places = {"vertex.root" if settings.target.remote else "platform.root": settings.target.root}
    if settings.training.ingestion == "import":
        places["data.root"] = settings.data.root
    return [
        f"{key} = {place!r}: should have none of the characters {' '.join(found)} in its path, which TFX takes for a "
        "pattern of file names. Rename the folder, or set another one"
        for key, place in places.items()
        if (found := sorted(set(place) & set(_PATTERN)))
    ]


def _absolute(folder: Path, place: str) -> str:
    return place if "://" in place else os.path.abspath(folder / os.path.expanduser(place))


def _lines(prefix: str, fields: Mapping[str, FieldInfo], values: Mapping[str, object]) -> str:
    return "".join(_line(key, field, values.get(prefix + key)) for key, field in fields.items())


def _line(key: str, field: FieldInfo, override: object) -> str:
    value = field.get_default(call_default_factory=True) if override is None else override
    if value is None:
        return f"{f'# {key} =':<24}  # {field.description}; default: the recipe's\n"
    return f"{f'{key} = {_toml(value)}':<24}  # {field.description}\n"


def _toml(value: object) -> str:
    if isinstance(value, tuple | list):
        items = [_toml(item) for item in value]
        inline = f"[{', '.join(items)}]"
        return inline if len(inline) <= _INLINE else "[\n" + "".join(f"    {item},\n" for item in items) + "]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_toml(key)} = {_toml(item)}' for key, item in value.items())}}}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
