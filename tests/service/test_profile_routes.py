"""Profiles over HTTP, and the heads they bring to the stream of a real service."""

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import onnxruntime
import pytest
import schemathesis
from hypothesis import settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from calibration.profiles import Profiles
from model_export.contract import Camera, Head, read_bundle, read_head
from service.wire import Configure, Configured, encode_configure
from tests.bundles import make_crops, make_head
from tests.service.conftest import RunningService, StartService, start, stop
from tests.service.stream_client import ask, connected, make_message, read_answer
from tests.service.test_http_rim import DOCUMENT, as_files, checked
from tests.service.test_http_rim import JPEGS as JPEGS_OF_CAMERAS
from tests.service.test_openapi import BOUNDS as MANY

BOUNDS = settings(MANY, max_examples=12)
API = schemathesis.openapi.from_dict(DOCUMENT).include(path_regex="^/v1/profiles")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "profiles"


@pytest.fixture
def digest(bundle_dir: Path) -> str:
    return read_bundle(bundle_dir).backbone_digest


@pytest.fixture
def served(start_service: StartService, folder: Path, digest: str) -> RunningService:
    """A service with a wearer `ada` who has two heads, the second of them live, and a kept take."""
    store = Profiles(folder)
    store.create("ada")
    store.give_consent("ada", "1", keep_takes=True)
    store.add_head("ada", a_head(1, digest))
    store.add_head("ada", a_head(2, digest), live=True)
    store.close()
    return start_service("--profiles", str(folder))


@pytest.fixture
def http(served: RunningService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.http_url, timeout=10, trust_env=False) as client:
        yield client


def a_head(seed: int, digest: str) -> Head:
    return make_head(seed, backbone_digest=digest)


def configured(client: Any, wearer: str) -> int:
    client.send(encode_configure(Configure(wearer)))
    answer = read_answer(client)
    assert isinstance(answer, Configured)
    assert answer.wearer == wearer
    return answer.head_version


def test_the_live_head_of_a_wearer_answers_and_the_reply_names_it(served: RunningService) -> None:
    with connected(served) as client:
        universal = ask(client, make_message(0))
        assert configured(client, "ada") == 2
        own = ask(client, make_message(1))
        assert configured(client, "bo") == 0
        again = ask(client, make_message(2))
    assert [reply.values.head_version for reply in (universal, own, again)] == [0, 2, 0]
    assert abs(own.values.values_E - universal.values.values_E).max() > 0.01
    assert any("head live wearer=ada version=2" in line for line in served.log)


def test_a_head_stands_alone_as_the_service_would_answer(http: httpx.Client, served: RunningService) -> None:
    pictures = [make_crops(1, seed)[0] for seed in (1, 2, 3)]
    frames = [
        {
            "camera": camera.label,
            "encoding": "gray8",
            "width": 128,
            "height": 128,
            "t_ns": 5,
            "image": base64.b64encode(pixels_HW.tobytes()).decode(),
        }
        for camera, pixels_HW in zip(Camera, pictures, strict=True)
    ]
    body = {"type": "frames", "sequence": 1, "frames": frames}
    for version, wearer in ((2, "ada"), (0, "nobody")):
        answer = http.get(f"/v1/profiles/ada/heads/{version}/onnx", timeout=60)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-disposition"] == f'attachment; filename="ada-{version}.onnx"'
        session = onnxruntime.InferenceSession(answer.content, providers=["CPUExecutionProvider"])
        inputs = {camera.label: pixels_HW[None] for camera, pixels_HW in zip(Camera, pictures, strict=True)}
        values, gaze, confidence = session.run(["values", "gaze", "confidence"], inputs)
        said = http.post("/v1/expressions", params={"wearer": wearer}, json=body).json()
        assert values[0].tolist() == pytest.approx(list(said["values"].values()), abs=1e-4)
        turned = [said["gaze_deg"][side][angle] for side in ("left", "right") for angle in ("yaw", "pitch")]
        assert gaze[0].tolist() == pytest.approx(turned, abs=1e-3)
        sure = [region["confidence"] for region in said["regions"].values()]
        assert confidence[0].tolist() == pytest.approx(sure, abs=1e-4)
    if Path("/proc").is_dir():
        maps = Path(f"/proc/{served.process.pid}/maps").read_text(encoding="utf-8")
        assert "/onnx/" not in maps, "the service itself never loads the onnx package"


def test_a_head_that_cannot_stand_alone_is_refused(http: httpx.Client, folder: Path) -> None:
    store = Profiles(folder)
    store.add_head("ada", a_head(4, "cd" * 32))
    store.close()
    for path, status, code in (
        ("ada/heads/3", 409, "conflict"),
        ("ada/heads/9", 404, "not_found"),
        ("bo/heads/0", 404, "not_found"),
        ("ada/heads/-1", 422, "field"),
    ):
        answer = http.get(f"/v1/profiles/{path}/onnx")
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), path


def test_a_single_frame_set_is_answered_by_the_wearers_head(http: httpx.Client) -> None:
    answer = http.post("/v1/expressions?wearer=ada", files=as_files(**JPEGS_OF_CAMERAS))
    assert answer.json()["head_version"] == 2


def test_rolling_back_and_choosing_change_the_next_reply(served: RunningService, http: httpx.Client) -> None:
    with connected(served) as client:
        configured(client, "ada")
        versions = [ask(client, make_message(0)).values.head_version]
        for number, path in enumerate(("roll-back", "heads/1/make-live", "heads/2/make-live", "heads/0/make-live")):
            answer = http.post(f"/v1/profiles/ada/{path}")
            body = checked(answer, "post", template(path))
            versions.append(ask(client, make_message(number + 1)).values.head_version)
            assert body["live_version"] == body["serving_version"] == versions[-1]
    assert versions == [2, 0, 1, 2, 0]


def template(path: str) -> str:
    return (
        f"/v1/profiles/{{wearer}}/{path.replace('0', '{version}').replace('1', '{version}').replace('2', '{version}')}"
    )


def test_a_head_that_another_process_made_live_answers_after_configure(
    served: RunningService, folder: Path, digest: str
) -> None:
    with connected(served) as client:
        assert configured(client, "ada") == 2
        Profiles(folder).add_head("ada", a_head(3, digest), live=True)
        assert ask(client, make_message(0)).values.head_version == 2
        assert configured(client, "ada") == 3
        assert ask(client, make_message(1)).values.head_version == 3


def test_a_head_for_other_backbones_is_refused_with_the_reason_and_the_universal_one_answers(
    served: RunningService, http: httpx.Client, folder: Path
) -> None:
    Profiles(folder).add_head("ada", a_head(3, "cd" * 32), live=True)
    with connected(served) as client:
        assert configured(client, "ada") == 0
        assert ask(client, make_message(0)).values.head_version == 0
    body = checked(http.get("/v1/profiles/ada"), "get", "/v1/profiles/{wearer}")
    assert (body["live_version"], body["serving_version"]) == (3, 0)
    assert [head["serves"] for head in body["heads"]] == [True, True, False]
    assert any("head refused wearer=ada" in line and "cdcdcdcdcdcd" in line for line in served.log)


def test_a_damaged_head_is_refused_and_the_universal_one_answers(
    start_service: StartService, folder: Path, digest: str
) -> None:
    store = Profiles(folder)
    store.create("ada")
    store.give_consent("ada", "1")
    record = store.add_head("ada", a_head(1, digest), live=True)
    (folder / "files" / record.digest).write_bytes(b"")
    service = start_service("--profiles", str(folder))
    with connected(service) as client:
        assert configured(client, "ada") == 0
    assert any("head refused wearer=ada" in line for line in service.log)


def test_a_store_that_cannot_be_read_does_not_keep_the_service_from_answering(
    start_service: StartService, folder: Path
) -> None:
    folder.mkdir()
    (folder / "profiles.sqlite").write_bytes(b"no database" * 1000)
    service = start_service("--profiles", str(folder))
    with connected(service) as client:
        assert configured(client, "ada") == 0
        assert ask(client, make_message(0)).values.head_version == 0
    answer = httpx.get(f"{service.http_url}/v1/profiles/ada", trust_env=False)
    assert checked(answer, "get", "/v1/profiles/{wearer}")["error"]["code"] == "storage"
    assert answer.status_code == 500


def test_a_profile_is_described_listed_and_its_heads_are_files(http: httpx.Client) -> None:
    body = checked(http.get("/v1/profiles/ada"), "get", "/v1/profiles/{wearer}")
    assert [(head["version"], head["live"]) for head in body["heads"]] == [(1, False), (2, True)]
    assert body["consents"][0]["version"] == "1"
    assert checked(http.get("/v1/profiles"), "get", "/v1/profiles") == {"wearers": ["ada"]}
    heads = checked(http.get("/v1/profiles/ada/heads"), "get", "/v1/profiles/{wearer}/heads")
    assert heads["heads"] == body["heads"]
    file = http.get("/v1/profiles/ada/heads/1")
    assert read_head(file.content).head_version == 1
    assert file.headers["content-disposition"] == 'attachment; filename="ada-1.safetensors"'


def test_a_profile_is_made_with_consent_and_withdrawn(http: httpx.Client) -> None:
    first = http.put("/v1/profiles/bo").raise_for_status().json()
    assert http.put("/v1/profiles/bo").json() == first
    answer = http.put("/v1/profiles/bo/consent", params={"version": "2", "keep_takes": "true", "retention_days": 9})
    (consent,) = checked(answer, "put", "/v1/profiles/{wearer}/consent")["consents"]
    assert (consent["version"], consent["keep_takes"], consent["retention_days"]) == ("2", True, 9)
    assert consent["withdrawn_unix_s"] is None
    body = checked(http.delete("/v1/profiles/bo/consent"), "delete", "/v1/profiles/{wearer}/consent")
    assert body["consents"][0]["withdrawn_unix_s"] is not None


def test_a_deleted_wearer_is_gone_at_once_and_answered_like_everybody(
    served: RunningService, http: httpx.Client, folder: Path
) -> None:
    with connected(served) as client:
        configured(client, "ada")
        assert ask(client, make_message(0)).values.head_version == 2
        assert http.delete("/v1/profiles/ada").status_code == 204
        assert ask(client, make_message(1)).values.head_version == 0
    assert not list((folder / "files").iterdir())
    assert http.get("/v1/profiles/ada").status_code == 404
    assert http.put("/v1/profiles/ada").json()["heads"] == []


REFUSED = [
    ("GET", "/v1/profiles/nobody", 404, "not_found"),
    ("GET", "/v1/profiles/ada/heads/9", 404, "not_found"),
    ("POST", "/v1/profiles/ada/heads/9/make-live", 404, "not_found"),
    ("DELETE", "/v1/profiles/ada/heads/2", 409, "conflict"),
    ("DELETE", "/v1/profiles/ada/heads/0", 422, "field"),
    ("GET", "/v1/profiles/ada/heads/one", 422, "field"),
    ("GET", "/v1/profiles/-ada", 422, "field"),
    ("PUT", "/v1/profiles/ada/consent", 422, "field"),
    ("PUT", "/v1/profiles/ada/consent?version=1&keep_takes=perhaps", 422, "field"),
    ("POST", "/v1/profiles/ada", 405, "method"),
    ("GET", "/v1/profiles/ada/roll-back", 405, "method"),
    ("GET", "/v1/profiles/ada/heads/1/make-live", 405, "method"),
]


def test_what_cannot_be_is_refused_with_a_typed_error(http: httpx.Client) -> None:
    for method, path, status, code in REFUSED:
        answer = http.request(method, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), (method, path, answer.text)
    assert http.request("POST", "/v1/profiles/ada").headers["allow"] == "DELETE, GET, PUT"
    assert http.get("/v1/profiles/ada").json()["live_version"] == 2


@pytest.mark.parametrize("headers", [{"origin": "https://evil.example"}, {"host": "evil.example"}])
def test_pages_of_other_origins_reach_no_profile(http: httpx.Client, headers: dict[str, str]) -> None:
    for method, path in (
        ("DELETE", "/v1/profiles/ada"),
        ("POST", "/v1/profiles/ada/roll-back"),
        ("GET", "/v1/profiles"),
    ):
        assert http.request(method, path, headers=headers).status_code == 403
    assert http.get("/v1/profiles/ada").json()["live_version"] == 2


def test_no_get_changes_anything() -> None:
    reading = {path for path, methods in DOCUMENT["paths"].items() if "get" in methods}
    assert not any(path.endswith(("make-live", "roll-back", "consent")) for path in reading)


def test_a_service_without_profiles_says_so(service: RunningService) -> None:
    answer = httpx.get(f"{service.http_url}/v1/profiles", trust_env=False)
    assert answer.status_code == 404
    assert "MIEN_PROFILES" in answer.json()["error"]["remedy"]


def test_a_busy_store_does_not_hold_up_the_stream(served: RunningService, http: httpx.Client, folder: Path) -> None:
    with connected(served) as client:
        configured(client, "ada")
        ask(client, make_message(0))
        store = Profiles(folder)
        with store._changing():  # another process writes for a second
            slowest_s = 0.0
            for sequence in range(1, 40):
                start_s = time.perf_counter()
                ask(client, make_message(sequence))
                slowest_s = max(slowest_s, time.perf_counter() - start_s)
                assert http.get("/v1/profiles/ada").status_code == 200
    assert slowest_s < 1


@pytest.fixture(scope="module")
def asked(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service whose profiles Schemathesis may do anything to."""
    folder = tmp_path_factory.mktemp("asked") / "profiles"
    store = Profiles(folder)
    for wearer in ("0", "A", "a", "00"):
        store.create(wearer)
        store.give_consent(wearer, "1")
        store.add_head(wearer, make_head(1), live=True)
    store.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        running = start(bundle_dir, "--profiles", str(folder))
        yield running
        stop(running)


@API.parametrize()
@BOUNDS
def test_every_answer_is_a_documented_one(case: Case[Any], asked: RunningService) -> None:
    response = case.call(base_url=asked.http_url)
    case.validate_response(
        response,
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
            negative_data_rejection,
            unsupported_method,
            allow_header_conformance,
        ],
    )


def test_the_document_names_each_status_of_a_profile() -> None:
    for path, methods in DOCUMENT["paths"].items():
        if path.startswith("/v1/profiles"):
            for answers in methods.values():
                assert {"403", "404", "409", "422", "500", "507"} <= answers["responses"].keys(), path
    assert json.dumps(DOCUMENT)
