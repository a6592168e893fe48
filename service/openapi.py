"""Prints the OpenAPI document of the service: `python -m service.openapi > docs/openapi.json`."""

import json
import sys

from service.app import routed_app


def openapi_text() -> str:
    """The document as it stands in docs/openapi.json."""
    return json.dumps(routed_app().openapi(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(openapi_text())
