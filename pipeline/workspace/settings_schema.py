"""The JSON schema of settings files, by which an editor completes, explains and checks them while they are written.

It can check one value at a time only. `settings_file.load` checks everything.
"""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from pipeline.workspace.settings import Settings
from pipeline.workspace.settings_file import SETTINGS_FILE


def settings_schema() -> dict[str, Any]:
    """Return the schema, with the explanation, the default and the limits of every setting."""
    about = {"title": SETTINGS_FILE, "description": "Settings of one deployment."}
    return {"$schema": _Generator.schema_dialect, **Settings.model_json_schema(schema_generator=_Generator), **about}


class _Generator(GenerateJsonSchema):
    """Pydantic's generator without null, which TOML does not have, and without titles made from keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default") is None or isinstance(schema["default"], BaseModel) or is_dataclass(schema["default"]):
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)
