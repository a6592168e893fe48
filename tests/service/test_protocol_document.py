"""docs/protocol.md, docs/watch.md and the README's example, held against the code and a running service."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from websockets.sync.client import connect

import service.stream as stream_module
from model_export.contract import EU_NAMES, Camera, Take, Validity, write_take
from model_export.contract.take import Encoding
from service.errors import ErrorCode, WireError
from service.http_models import ErrorBody
from service.jpeg import MAX_SCANS
from service.openapi import openapi_text
from service.rig import MIN_SIDE_PX, RATE_BOUNDS_HZ
from service.settings import Settings
from service.watch import PICTURE, WATCH_HEADER
from service.wire import (
    DEFAULT_LIMITS,
    DESCRIPTOR,
    FRAMES_HEADER,
    PROTOCOL_VERSION,
    REPLY_HEADER,
    Calibrate,
    CalibrationTold,
    CameraPlacement,
    Closing,
    Configure,
    Configured,
    FrameMessage,
    Hello,
    Reply,
    decode_frames,
    decode_frames_json,
    decode_reply,
    encode_frames,
    encode_reply,
    parse_server_text,
    parse_text,
    reply_as_dict,
)
from tests.service.conftest import RunningService
from tests.service.documents import (
    blocks,
    document,
    dumped_bytes,
    layout_of_struct,
    layout_of_table,
    section,
    tables,
    unpacked,
    words_of,
)
from tests.service.recording_service import RecordingService, recording
from tests.service.stream_client import BINARY, JSON, read_text
from tests.service.wire_material import jpeg_of, smooth_image

PROTOCOL = document("protocol.md")
EXAMPLES = section(PROTOCOL, "Worked examples")
FRAMES, REPLY = (dumped_bytes(block) for block in blocks(EXAMPLES, "hex"))
FRAMES_TABLE, REPLY_TABLE = tables(EXAMPLES)
HEADER_LAYOUT, DESCRIPTOR_LAYOUT, REPLY_LAYOUT = (
    layout_of_struct(form) for form in (FRAMES_HEADER.format, DESCRIPTOR.format, REPLY_HEADER.format + "56f")
)
FRAMES_LAYOUT = [
    *HEADER_LAYOUT,
    *((start + offset, kind) for start in (16, 40) for offset, kind in DESCRIPTOR_LAYOUT),
]
JSON_EXAMPLES = {str(message.get("type", "refusal")): message for message in map(json.loads, blocks(PROTOCOL, "json"))}
DEFAULT_ADDRESS = "127.0.0.1:8000"


def test_byte_tables_say_what_the_code_packs() -> None:
    header, descriptor = tables(section(PROTOCOL, "Frame set"))
    (reply,) = tables(section(PROTOCOL, "Reply"))
    assert layout_of_table(header) == HEADER_LAYOUT
    assert layout_of_table(descriptor) == DESCRIPTOR_LAYOUT
    assert layout_of_table(reply) == REPLY_LAYOUT


def test_byte_tables_of_the_watch_protocol_say_what_the_code_packs() -> None:
    header, picture = tables(section(document("watch.md"), "Binary messages, little-endian"))
    assert header[-1][:2] == [str(WATCH_HEADER.size), f"{len(REPLY)} bytes"]
    assert layout_of_table(header[:-1]) == layout_of_struct(WATCH_HEADER.format)
    assert layout_of_table(picture) == layout_of_struct(PICTURE.format)


@pytest.mark.parametrize(
    ("rows", "data", "layout"),
    [(FRAMES_TABLE, FRAMES, FRAMES_LAYOUT), (REPLY_TABLE, REPLY, REPLY_LAYOUT)],
    ids=["frame set", "reply"],
)
def test_every_explained_byte_stands_in_the_dump_and_means_what_is_said(
    rows: list[list[str]], data: bytes, layout: list[tuple[int, str]]
) -> None:
    ends = []
    for at, digits, field, value in rows:
        start, (first, *last) = int(at, 16), [bytes.fromhex(part) for part in digits.split("...")]
        assert data[start : start + len(first)] == first, at
        assert not last or not last[0] or data.endswith(last[0]), at
        ends.append((start, start + len(first), bool(last)))
        if field.startswith("image of"):
            continue
        found = unpacked(layout, data, start, start + len(first))
        if field in ("magic", "bundle"):
            (text,) = found
            assert isinstance(text, bytes)
            assert value == (text.decode() if field == "magic" else text.hex())
            continue
        told = re.findall(r"(?<!\w)-?\d+(?:\.\d+)?", value.partition(":")[0])
        assert len(told) == len(found)
        for number, exact in zip(told, found, strict=True):
            digits_after = len(number.partition(".")[2])
            assert isinstance(exact, int | float)
            assert f"{exact:.{digits_after}f}" == number, (at, field)
    assert all(end == start or cut for (_, end, cut), (start, _, _) in pairwise(ends)), "bytes are left out"


def test_the_dumped_frame_set_decodes_to_what_is_said_and_back() -> None:
    message = decode_frames(FRAMES)
    assert encode_frames(message) == FRAMES
    assert f"A frame set of two cameras, {len(FRAMES)} bytes" in EXAMPLES
    left_eye, mouth = message.frames
    assert (message.sequence, left_eye.camera, mouth.camera) == (7, Camera.LEFT_EYE, Camera.MOUTH)
    assert (left_eye.encoding, left_eye.width, left_eye.height) == (Encoding.GRAY8, 4, 2)
    assert (mouth.encoding, mouth.width, mouth.height) == (Encoding.JPEG, 8, 8)
    assert list(left_eye.payload[:4]) == [32, 64, 96, 128]
    assert f"{(mouth.t_ns - left_eye.t_ns) / 1e6} ms later" in " ".join(EXAMPLES.split())
    assert decode_frames_json(json.dumps(JSON_EXAMPLES["frames"])) == message


def test_the_dumped_reply_decodes_to_the_json_reply_and_back() -> None:
    reply = decode_reply(REPLY)
    assert encode_reply(reply) == REPLY
    assert reply_as_dict(reply) == JSON_EXAMPLES["values"]
    assert [region.validity for region in reply.values.regions] == [Validity.LIVE, Validity.LIVE, Validity.HELD]


def test_the_changed_byte_is_refused_with_the_error_that_is_shown() -> None:
    changed = bytearray(FRAMES)
    assert "With 05 in place of 04 at 0012" in EXAMPLES
    assert changed[0x12] == 4
    changed[0x12] = 5
    with pytest.raises(WireError) as refused:
        decode_frames(bytes(changed))
    assert refused.value.as_dict() == JSON_EXAMPLES["error"]


def test_every_json_example_is_a_message_of_its_type() -> None:
    kinds = {
        "frames": FrameMessage,
        "configure": Configure,
        "hello": Hello,
        "configured": Configured,
        "calibrate": Calibrate,
        "calibration": CalibrationTold,
        "closing": Closing,
        "error": WireError,
        "values": Reply,
    }
    assert JSON_EXAMPLES.keys() == {*kinds, "refusal"}
    for name, kind in kinds.items():
        text = json.dumps(JSON_EXAMPLES[name])
        parsed = parse_text(text) if name in ("frames", "configure", "calibrate") else parse_server_text(text)
        assert type(parsed) is kind
    ErrorBody.model_validate(JSON_EXAMPLES["refusal"])


def test_the_hello_that_is_shown_has_this_versions_names_and_limits() -> None:
    hello = parse_server_text(json.dumps(JSON_EXAMPLES["hello"]))
    assert isinstance(hello, Hello)
    assert hello.eu_names == EU_NAMES
    assert hello.limits == DEFAULT_LIMITS


def test_the_frame_set_that_is_shown_is_answered_in_both_forms(service: RunningService) -> None:
    values = []
    for protocol, message in ((BINARY, FRAMES), (JSON, json.dumps(JSON_EXAMPLES["frames"]))):
        with connect(service.stream_url, subprotocols=[protocol], compression=None) as client:  # type: ignore[list-item]
            read_text(client)
            client.send(json.dumps(JSON_EXAMPLES["configure"]))
            assert json.loads(read_text(client)) == JSON_EXAMPLES["configured"]
            client.send(json.dumps({"type": "configure", "rig": {"cameras": {"left_eye": {}}}}))  # the example's crop
            read_text(client)  # lies outside of so small an image
            client.send(message)
            answer = client.recv(5)
            reply = decode_reply(answer) if isinstance(answer, bytes) else parse_server_text(answer)
            assert isinstance(reply, Reply), reply
            assert [region.validity.name for region in reply.values.regions] == ["LIVE", "UNSEEN", "LIVE"]
            assert (reply.values.sequence, reply.values.t_ns) == (7, 12_347_000_000)
            values.append(reply.values.values_E)
    assert abs(values[0] - values[1]).max() < 1e-6


def test_tables_of_names_and_numbers_agree_with_the_code() -> None:
    (validities,) = tables(section(PROTOCOL, "Cameras that come apart"))
    assert [(int(number), words_of(name)) for number, name, _ in validities] == [
        (one.value, [one.name.lower()]) for one in Validity
    ]
    (placement,) = tables(section(PROTOCOL, "configure, configured"))
    assert [words_of(name) for name, *_ in placement] == [[one.name] for one in fields(CameraPlacement)]
    assert f"{MIN_SIDE_PX:g} px to 4 times" in placement[1][2]
    assert "{:g} to {:g}".format(*RATE_BOUNDS_HZ) in placement[4][2]
    (codes,) = tables(section(PROTOCOL, "Error codes"))
    assert [words_of(code) for code, _ in codes] == [[str(code)] for code in ErrorCode]
    (versions,) = tables(section(PROTOCOL, "Versions"))
    assert [int(number) for number, _ in versions] == list(range(1, PROTOCOL_VERSION + 1))


def test_limits_are_the_defaults_of_the_service() -> None:
    settings = Settings()
    (limits,) = tables(section(PROTOCOL, "Limits"))
    assert [int(re.sub(r"\D", "", limit)) for _, limit, _ in limits] == [
        settings.max_message_bytes,
        DEFAULT_LIMITS.max_side_px,
        DEFAULT_LIMITS.max_pixels,
        MAX_SCANS,
        settings.max_connections,
        settings.max_malformed,
    ]
    assert settings.max_message_bytes == DEFAULT_LIMITS.max_message_bytes
    known = {f"MIEN_{one.name.upper()}" for one in fields(Settings)}
    assert set(re.findall(r"MIEN_\w+", PROTOCOL)) <= known
    assert f"no answer within {settings.answer_deadline_s:g} s" in PROTOCOL
    assert f"arrive in full within {settings.receipt_deadline_s:g} s" in PROTOCOL


def test_close_codes_and_statuses_are_those_of_the_service() -> None:
    (closes,) = tables(section(PROTOCOL, "Close codes"))
    assert [int(code) for code, *_ in closes] == [
        int(code) for code in re.findall(r"\b1\d{3}\b", stream_module.__doc__ or "")
    ]
    (statuses,) = tables(section(PROTOCOL, "HTTP"))
    listed = {int(code) for row in statuses for code in row[0].split(", ")}
    documented = json.loads(openapi_text())["paths"]["/v1/expressions"]["post"]["responses"]
    assert listed - {404, 405} == {int(code) for code in documented} - {200}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is absent")
def test_the_curl_examples_are_answered(service: RunningService, tmp_path: Path) -> None:
    for camera in Camera:
        (tmp_path / f"{camera.label}.jpg").write_bytes(jpeg_of(smooth_image(96, 128, camera)))
    commands = blocks(section(PROTOCOL, "HTTP"), "bash")
    assert len(commands) == 2
    answers = []
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", pointed_at(service, command).replace("curl", "curl -sS --noproxy '*'", 1)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=True,
            timeout=60,
        )
        answers.append(parse_server_text(done.stdout))
    form, text = answers
    assert isinstance(form, Reply)
    assert isinstance(text, Reply)
    assert (form.values.t_ns, text.values.t_ns, text.values.sequence) == (12_345_678_900, 12_345_678_900, 7)
    assert [region.validity for region in form.values.regions] == [Validity.LIVE] * 3


def test_the_python_example_runs_on_websockets_alone(service: RunningService, tmp_path: Path) -> None:
    _, code = blocks(PROTOCOL, "python")
    lines = run_python(service, code, tmp_path).splitlines()
    assert [line.split()[:2] for line in lines] == [[str(sequence), "1"] for sequence in range(10)]
    assert all(0 <= float(line.split()[3]) <= 1 for line in lines)
    imports = set(re.findall(r"^(?:import|from) ([a-z]+)", code, re.MULTILINE))
    assert imports == {"json", "struct", "time", "websockets"}


def test_the_calibration_example_goes_on_until_the_report() -> None:
    cue = {"cue": "smile", "prompt": "Smile."}
    told = (("cue", cue), ("refused", {**cue, "reason": "Too weak."}), ("report", {"head_version": 4}))
    script = tuple(CalibrationTold(event, fields) for event, fields in told)
    with recording(RecordingService(script=script)) as service:
        code = blocks(PROTOCOL, "python")[0].replace("ws://127.0.0.1:8000/v1/stream", service.url)
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120, check=False
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["Smile.", "Too weak.", "better: 4"]
    assert [wish.do for wish in service.wishes] == ["start", "cancel"]


def test_the_readmes_python_example_runs(service: RunningService, tmp_path: Path) -> None:
    images = {
        camera: tuple(jpeg_of(smooth_image(96, 128, 3 * seed + camera)) for seed in range(4)) for camera in Camera
    }
    take = Take("smile", Encoding.JPEG, np.arange(4, dtype=np.int64) * 11_000_000, images)
    (tmp_path / "clip.take").write_bytes(write_take(take))
    (code,) = blocks(document("README.md"), "python")
    printed = run_python(service, code, tmp_path)
    numbers = [float(number) for number in re.findall(r"-?\d+\.\d*(?:e[+-]?\d+)?", printed)]
    assert len(numbers) == 4 * (len(EU_NAMES) + 4)


def pointed_at(service: RunningService, example: str) -> str:
    """An example, talking to this service in place of the default address."""
    assert DEFAULT_ADDRESS in example
    return example.replace(DEFAULT_ADDRESS, f"{service.host}:{service.port}")


def run_python(service: RunningService, code: str, folder: Path) -> str:
    """What an example prints, run in a process of its own."""
    command = [sys.executable, "-W", "error", "-c", pointed_at(service, code)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout
