"""HTTP of a real service, held against its own OpenAPI document."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families

from model_export.contract import EU_NAMES, Camera
from service.openapi import openapi_text
from service.wire import decode_reply_json, encode_frames_json
from tests.bundles import make_crops
from tests.conftest import REPOSITORY
from tests.service.conftest import RunningService
from tests.service.stream_client import ask, connected, make_message

JPEGS = {
    camera.label: cv2.imencode(".jpg", crop)[1].tobytes() for camera, crop in zip(Camera, make_crops(3), strict=True)
}
DOCUMENT: dict[str, Any] = json.loads(openapi_text())


@pytest.fixture
def http(service: RunningService) -> Any:
    with httpx.Client(base_url=service.http_url, timeout=10, trust_env=False) as client:
        yield client


def checked(response: httpx.Response, method: str, path: str) -> Any:
    """The body of an answer, after holding status, media type and body against the OpenAPI document."""
    answers = DOCUMENT["paths"][path][method]["responses"]
    assert str(response.status_code) in answers, (response.status_code, response.text)
    content = answers[str(response.status_code)]["content"]
    assert response.headers["content-type"].partition(";")[0] in content
    body = response.json()
    schema = {**content["application/json"]["schema"], "components": DOCUMENT["components"]}
    Draft202012Validator(schema).validate(body)
    return body


def as_files(**images: bytes) -> dict[str, tuple[str, bytes, str]]:
    return {name: (f"{name}.jpg", image, "image/jpeg") for name, image in images.items()}


def test_the_document_in_docs_is_the_services_own() -> None:
    stored = (REPOSITORY / "docs" / "openapi.json").read_text(encoding="utf-8")
    assert stored == openapi_text(), "docs/openapi.json is stale: python -m service.openapi > docs/openapi.json"


def test_the_document_is_whole_and_served(http: httpx.Client) -> None:
    served = http.get("/openapi.json").json()
    assert served == DOCUMENT
    Draft202012Validator.check_schema({"components": served["components"], "$ref": "#/components/schemas/ValuesBody"})
    assert {path for path in served["paths"] if not path.startswith(("/v1/profiles", "/v1/calibration"))} == {
        "/v1/expressions",
        "/v1/bundle",
        "/livez",
        "/readyz",
        "/metrics",
    }
    references = set(json.dumps(served).split('"#/components/schemas/')[1:])
    names = {text.partition('"')[0] for text in references}
    assert names <= served["components"]["schemas"].keys()


def test_images_of_a_form_are_answered_with_values(http: httpx.Client) -> None:
    body = checked(
        http.post("/v1/expressions", files=as_files(**JPEGS), data={"t_ns": "123456789012345"}),
        "post",
        "/v1/expressions",
    )
    assert list(body["values"]) == list(EU_NAMES)
    assert body["t_ns"] == 123456789012345
    assert {region["validity"] for region in body["regions"].values()} == {"live"}
    assert decode_reply_json(json.dumps(body)).values.t_ns == 123456789012345


def test_a_form_of_one_camera_leaves_the_others_unseen(http: httpx.Client) -> None:
    body = checked(http.post("/v1/expressions", files=as_files(mouth=JPEGS["mouth"])), "post", "/v1/expressions")
    assert [body["regions"][camera.label]["validity"] for camera in Camera] == ["unseen", "unseen", "live"]
    assert body["values"]["eyeBlinkLeft"] == 0
    assert body["t_ns"] == 0


def test_json_and_the_websocket_give_the_same_values(http: httpx.Client, service: RunningService) -> None:
    message = make_message(41)
    body = checked(
        http.post("/v1/expressions", content=encode_frames_json(message), headers={"content-type": "application/json"}),
        "post",
        "/v1/expressions",
    )
    with connected(service) as client:
        streamed = ask(client, message)
    assert body["sequence"] == 41
    np.testing.assert_allclose(list(body["values"].values()), streamed.values.values_E, atol=1e-6)


def test_each_call_stands_by_itself(http: httpx.Client) -> None:
    left_eye = {"left_eye": JPEGS["left_eye"]}
    first = http.post("/v1/expressions", files=as_files(**JPEGS)).json()
    alone = http.post("/v1/expressions", files=as_files(**left_eye)).json()
    again = http.post("/v1/expressions", files=as_files(**JPEGS)).json()
    assert alone["regions"]["mouth"]["validity"] == "unseen"
    assert first["values"] == again["values"]


@pytest.mark.parametrize(("wearer", "status"), [("ada", 200), ("../etc", 422), ("", 422), ("a" * 65, 422)])
def test_a_wearer_is_an_identifier(http: httpx.Client, wearer: str, status: int) -> None:
    response = http.post("/v1/expressions", params={"wearer": wearer}, files=as_files(**JPEGS))
    assert response.status_code == status
    body = checked(response, "post", "/v1/expressions")
    if status == 422:
        assert body["error"]["code"] == "field"
        assert "wearer" in body["error"]["expected"]


@pytest.mark.parametrize(
    ("request_parts", "status", "code"),
    [
        ({"content": b"hello", "headers": {"content-type": "text/plain"}}, 415, "media_type"),
        ({"content": b"hello"}, 415, "media_type"),
        ({"files": as_files(left_eye=b"\x89PNG\r\n\x1a\n")}, 415, "media_type"),
        ({"files": as_files(left_eye=b"")}, 415, "media_type"),
        ({"files": as_files(left_eye=b"\xff\xd8\xff\xe0 not a JPEG")}, 422, "jpeg"),
        ({"files": as_files(third_eye=JPEGS["mouth"])}, 422, "field"),
        ({"files": as_files(mouth=JPEGS["mouth"]), "data": {"t_ns": "-1"}}, 422, "time"),
        ({"files": as_files(mouth=JPEGS["mouth"]), "data": {"t_ns": "1e9"}}, 422, "time"),
        ({"files": as_files(mouth=JPEGS["mouth"]), "data": {"mood": "happy"}}, 422, "field"),
        ({"files": [("mouth", as_files(mouth=JPEGS["mouth"])["mouth"])] * 2}, 422, "camera"),
        ({"files": [("mouth", as_files(mouth=JPEGS["mouth"])["mouth"])] * 4}, 400, "field"),
        ({"data": {"t_ns": "1"}, "headers": {"content-type": "multipart/form-data"}}, 400, "field"),
        ({"content": b"--x--\r\n", "headers": {"content-type": "multipart/form-data; boundary=x"}}, 422, "frame_count"),
        ({"content": b"nonsense", "headers": {"content-type": "multipart/form-data; boundary=x"}}, 400, "field"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "json"),
        ({"content": b"\xff", "headers": {"content-type": "application/json"}}, 400, "json"),
        ({"json": {"type": "frames", "sequence": 0, "frames": []}}, 422, "frame_count"),
        ({"json": {"type": "frames", "sequence": True, "frames": []}}, 422, "field"),
        ({"json": {"type": "frames", "sequence": 0, "frames": [{"camera": "nose"}]}}, 422, "field"),
        ({"content": bytes(256 * 1024 + 1), "headers": {"content-type": "application/json"}}, 413, "too_large"),
    ],
)
def test_a_wrong_request_gets_a_typed_error(
    http: httpx.Client, request_parts: dict[str, Any], status: int, code: str
) -> None:
    response = http.post("/v1/expressions", **request_parts)
    body = checked(response, "post", "/v1/expressions")
    assert (response.status_code, body["error"]["code"]) == (status, code), body
    assert body["error"]["expected"]
    assert http.post("/v1/expressions", files=as_files(**JPEGS)).status_code == 200


def test_a_body_without_a_length_is_cut_off_at_the_limit(http: httpx.Client) -> None:
    sent = 0

    def endless() -> Any:
        nonlocal sent
        while sent < 1 << 30:
            sent += 65536
            yield bytes(65536)

    try:
        response = http.post("/v1/expressions", content=endless(), headers={"content-type": "application/json"})
        assert checked(response, "post", "/v1/expressions")["error"]["code"] == "too_large"
    except httpx.WriteError:
        pass  # the service answered and closed while the client still wrote
    assert sent < 32 << 20


def test_a_forged_jpeg_is_refused_at_once(http: httpx.Client) -> None:
    jpeg = bytearray(JPEGS["mouth"])
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = (32_000).to_bytes(2, "big") * 2
    start_s = time.perf_counter()
    response = http.post("/v1/expressions", files=as_files(mouth=bytes(jpeg)))
    assert time.perf_counter() - start_s < 0.1
    assert response.status_code == 422


def test_the_bundle_is_described(http: httpx.Client) -> None:
    body = checked(http.get("/v1/bundle"), "get", "/v1/bundle")
    assert body["name"] == "test-0"
    assert body["eu_names"] == list(EU_NAMES)
    assert body["crops"]["right_eye"] == {"size_px": 128, "span_cm": 5.3, "mirrored": True}
    assert body["training"]["note"] == "random weights for tests"


def test_health_is_told(http: httpx.Client) -> None:
    assert checked(http.get("/livez"), "get", "/livez") == {"status": "alive"}
    assert checked(http.get("/readyz"), "get", "/readyz") == {"status": "ready"}


def test_metrics_count_what_happens(http: httpx.Client, service: RunningService) -> None:
    def counts() -> dict[str, float]:
        text = http.get("/metrics").raise_for_status().text
        families = text_string_to_metric_families(text)
        return {one.name + str(one.labels.get("code", "")): one.value for family in families for one in family.samples}

    before = counts()
    with connected(service) as client:
        for sequence in range(5):
            ask(client, make_message(sequence))
        client.send(b"junk")
        client.recv()
        during = counts()
    assert during["mien_connections"] - before["mien_connections"] == 1
    assert during["mien_frame_sets_total"] - before["mien_frame_sets_total"] == 5
    assert during["mien_replies_total"] - before["mien_replies_total"] == 5
    assert during["mien_errors_totalmagic"] - before["mien_errors_totalmagic"] == 1
    assert during["process_resident_memory_bytes"] > 0


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/v1/bundle", "/metrics", "/openapi.json", "/"])
def test_head_is_get_without_the_body(http: httpx.Client, path: str) -> None:
    head, get = http.head(path), http.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"") == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/page/../../etc/passwd", 404, "not_found"),
        ("GET", "/page/%2e%2e%2fapp.py", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/v1/expressions", 405, "method"),
        ("OPTIONS", "/v1/expressions", 405, "method"),
        ("POST", "/livez", 405, "method"),
        ("DELETE", "/v1/bundle", 405, "method"),
    ],
)
def test_a_path_or_method_that_does_not_exist_gets_a_typed_error(
    http: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    response = http.request(method, path)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    if status == 405:
        assert response.headers["allow"]


def test_every_answer_tells_browsers_to_trust_nothing(http: httpx.Client) -> None:
    for path in ("/", "/livez", "/nothing"):
        headers = http.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "server" not in headers


@pytest.mark.parametrize(
    ("headers", "code"), [({"origin": "https://evil.example"}, "origin"), ({"host": "evil.example"}, "host")]
)
def test_other_origins_and_hosts_are_refused(http: httpx.Client, headers: dict[str, str], code: str) -> None:
    for response in (http.get("/metrics", headers=headers), http.post("/v1/expressions", headers=headers)):
        assert (response.status_code, response.json()["error"]["code"]) == (403, code)


@pytest.mark.parametrize("host", ["10.42.0.17:8000", "[fd00::17]", "mien.svc.cluster.local", "evil.example", ""])
def test_probes_are_answered_whatever_the_host(http: httpx.Client, host: str) -> None:
    for path in ("/livez", "/readyz"):
        assert http.get(path, headers={"host": host}).status_code == 200
        assert http.head(path, headers={"host": host}).status_code == 200
        assert http.post(path, headers={"host": host}).status_code == 405


@pytest.mark.parametrize(("host", "status"), [("10.42.0.17:8000", 200), ("[fd00::17]", 200), ("evil.example", 403)])
def test_prometheus_may_ask_by_address(http: httpx.Client, host: str, status: int) -> None:
    assert http.get("/metrics", headers={"host": host}).status_code == status


@pytest.mark.parametrize("path", ["/", "/v1/bundle", "/openapi.json", "/livez/", "/v1/profiles", "/livezz"])
def test_an_address_of_elsewhere_opens_nothing_else(http: httpx.Client, path: str) -> None:
    assert http.get(path, headers={"host": "10.42.0.17:8000"}).status_code == 403


def test_an_image_in_base64_may_be_a_jpeg(http: httpx.Client) -> None:
    frame = {
        "camera": "mouth",
        "encoding": "jpeg",
        "width": 128,
        "height": 128,
        "t_ns": 5,
        "image": base64.b64encode(JPEGS["mouth"]).decode(),
    }
    response = http.post("/v1/expressions", json={"type": "frames", "sequence": 9, "frames": [frame]})
    assert checked(response, "post", "/v1/expressions")["sequence"] == 9


def test_no_picture_is_written_to_disk(http: httpx.Client, service: RunningService) -> None:
    files = Path(f"/proc/{service.process.pid}/fd")
    if not files.is_dir():
        pytest.skip("needs /proc")

    def opened() -> set[str]:
        links = {str(one.readlink()) for one in files.iterdir() if one.is_symlink()}
        return {link for link in links if link.startswith("/")}

    before = opened()
    for _ in range(5):
        assert http.post("/v1/expressions", files=as_files(**JPEGS)).status_code == 200
    assert opened() <= before
