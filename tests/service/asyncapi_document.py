"""docs/asyncapi.yaml, and whether a message is what it says."""

from typing import Any

import yaml
from jsonschema import Draft7Validator

from service.watch import SUBPROTOCOL as WATCH
from tests.service.documents import document
from tests.service.stream_client import BINARY, JSON

DOCUMENT: dict[str, Any] = yaml.safe_load(document("asyncapi.yaml"))
MESSAGES: dict[str, Any] = DOCUMENT["components"]["messages"]
CALIBRATION = {"calibrate", "calibration"}
"""Held against their schemas in tests/service/test_calibrating.py and test_calibrating_service.py."""
WATCH_CALIBRATION = {"watchCalibration"}
"""In tests/service/test_calibration_routes.py."""
CHANNEL_OF = {BINARY: "streamBinary", JSON: "streamJson", WATCH: "watch"}


def strict(schema: Any) -> Any:
    """The schema, refusing properties that it does not name: the document leaves room for later ones, this version has none."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: strict(value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        made.setdefault("additionalProperties", False)
    return made


SCHEMAS = strict(DOCUMENT["components"]["schemas"])


def check(message: str, value: object) -> None:
    """Raises ValidationError unless `value` is what the message's schema says, and nothing more."""
    Draft7Validator({**strict(MESSAGES[message]["payload"]), "components": {"schemas": SCHEMAS}}).validate(value)


def is_valid(message: str, value: object) -> bool:
    """Whether `value` is what the message's schema says."""
    validator = Draft7Validator({**MESSAGES[message]["payload"], "components": DOCUMENT["components"]})
    return bool(validator.is_valid(value))
