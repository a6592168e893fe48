"""Schemathesis sends a running service what its OpenAPI document allows, and what it does not."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from service.openapi import openapi_text
from tests.service.conftest import RunningService
from tests.service.wire_material import jpeg_of, smooth_image

DOCUMENT: dict[str, Any] = json.loads(openapi_text())
BOUNDS = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
CONFORMANCE = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
API = schemathesis.openapi.from_dict(DOCUMENT).exclude(
    path_regex="^/v1/profiles"
)  # tests/service/test_profile_routes.py
ALLOWED = schemathesis.openapi.from_dict(
    DOCUMENT,
    config=schemathesis.Config(
        projects=ProjectsConfig(default=ProjectConfig(generation=GenerationConfig(modes=[GenerationMode.POSITIVE])))
    ),
).exclude(path_regex="^/v1/(profiles|calibration)")  # whether one is connected, no document says

# A schema can say that a part is a JPEG, not what a JPEG is.
schemathesis.openapi.media_type(
    "image/jpeg", st.sampled_from([jpeg_of(smooth_image(24, 32, seed)) for seed in range(3)])
)


@pytest.fixture(scope="module", autouse=True)
def _no_proxy() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield


@API.parametrize()
@BOUNDS
def test_every_answer_is_a_documented_one_and_nothing_wrong_is_accepted(
    case: Case[Any], service: RunningService
) -> None:
    response = case.call(base_url=service.http_url)
    checks = [*CONFORMANCE, negative_data_rejection, unsupported_method, allow_header_conformance]
    case.validate_response(response, checks=checks)


@ALLOWED.parametrize()
@BOUNDS
def test_what_the_document_allows_is_answered(case: Case[Any], service: RunningService) -> None:
    sequence = 0
    if case.media_type == "application/json":
        case.body = body = with_images(case.body)
        sequence = body["sequence"]
    response = case.call(base_url=service.http_url)
    case.validate_response(response, checks=[*CONFORMANCE, positive_data_acceptance])
    assert response.status_code == 200
    if case.method == "POST":
        assert response.json()["sequence"] == sequence


def with_images(body: Any) -> dict[str, Any]:
    """A frame set of the document with what its schema cannot say: real images, one a camera, whole numbers as such."""
    frames = {}
    for frame in body["frames"]:
        width, height = 1 + int(frame["width"]) % 64, 1 + int(frame["height"]) % 64
        pixels_HW = smooth_image(height, width)
        image = jpeg_of(pixels_HW) if frame["encoding"] == "jpeg" else pixels_HW.tobytes()
        frames[frame["camera"]] = {
            **frame,
            "width": width,
            "height": height,
            "t_ns": int(frame["t_ns"]),
            "image": base64.b64encode(image).decode(),
        }
    return {**body, "sequence": int(body["sequence"]), "frames": list(frames.values())}
