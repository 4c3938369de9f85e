"""The JSON Schema of a configuration file, for editors that complete and check keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic.json_schema import GenerateJsonSchema

from copyd.config import units
from copyd.config.model import Config

if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import core_schema


def json_schema() -> dict[str, object]:
    """Return the schema (draft 2020-12) as JSON values."""
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        **Config.model_json_schema(schema_generator=_TomlSchema),
        "title": "copyd configuration",
    }


class _TomlSchema(GenerateJsonSchema):
    """TOML has no null, so a key without a default has none; defaults are spelled as in a file."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        generated = super().default_schema(schema)
        spell = schema["schema"].get("serialization", {}).get("function")
        if spell in {units.spell_duration, units.spell_size}:
            generated["default"] = spell(schema["default"])
        if generated.get("default", ...) is None:
            del generated["default"]
        return generated
