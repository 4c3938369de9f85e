from __future__ import annotations

import json
import re
from typing import Any

import pytest

from copyd.config import Config, json_schema
from copyd.config.units import parse_duration


@pytest.fixture
def schema() -> dict[str, Any]:
    copied: dict[str, Any] = json.loads(json.dumps(json_schema()))
    return copied


def test_it_is_json_schema_with_the_sections_of_the_model(schema: dict[str, Any]) -> None:
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert list(schema["properties"]) == list(Config.model_fields)


def test_every_key_is_described(schema: dict[str, Any]) -> None:
    for section in [schema, *schema["$defs"].values()]:
        for key, described in section["properties"].items():
            assert described.get("description"), f"{section['title']}: {key}"


def test_no_section_takes_an_unknown_key(schema: dict[str, Any]) -> None:
    assert all(not section["additionalProperties"] for section in schema["$defs"].values())
    assert schema["additionalProperties"] is False


def test_toml_has_no_null(schema: dict[str, Any]) -> None:
    assert "null" not in json.dumps(schema)


def test_what_has_no_default_is_required(schema: dict[str, Any]) -> None:
    assert schema["$defs"]["Transfer"]["required"] == ["source", "destinations"]
    assert schema["$defs"]["Cluster"]["required"] == ["data_directory"]
    assert "required" not in schema["$defs"]["Server"]


def test_a_duration_is_a_string_with_a_pattern_and_a_default_as_one_writes_it(
    schema: dict[str, Any],
) -> None:
    deadline = schema["$defs"]["Transfer"]["properties"]["deadline"]
    assert deadline["type"] == "string"
    assert re.search(deadline["pattern"], deadline["default"])
    assert parse_duration(deadline["default"]) == 1_800


def test_a_size_is_a_string_with_a_pattern_and_a_default_as_one_writes_it(
    schema: dict[str, Any],
) -> None:
    size = schema["$defs"]["Transfer"]["properties"]["batch_size"]
    assert size["type"] == "string"
    assert size["default"] == "20MB"
    assert re.search(size["pattern"], size["default"])


def test_a_connection_string_is_marked_as_a_secret(schema: dict[str, Any]) -> None:
    assert schema["$defs"]["Server"]["properties"]["conninfo"]["format"] == "password"
