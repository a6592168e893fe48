from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from model_export.contract import EU_COUNT, EU_INDEX, EU_NAMES, Camera, Take, write_take
from model_export.contract.take import Encoding
from service.sources import Agreement, Reference, SourceError, open_source, replay
from tests.service.wire_material import jpeg_of, smooth_image

_TIMES = np.array([100, 300, 400, 700], np.int64) * 1_000_000


def _take(encoding: Encoding) -> Take:
    images = {camera: [smooth_image(16, 24, 10 * camera + index) for index in range(4)] for camera in Camera}
    coded = {
        camera: tuple(one.tobytes() if encoding is Encoding.GRAY8 else jpeg_of(one) for one in listed)
        for camera, listed in images.items()
    }
    coded[Camera.RIGHT_EYE] = (b"", *coded[Camera.RIGHT_EYE][1:])
    truth = np.random.default_rng(1).random((4, EU_COUNT), np.float32)
    return Take("test", encoding, _TIMES, coded, (16, 24), truth)


@pytest.fixture(params=list(Encoding))
def take_path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "a.take"
    path.write_bytes(write_take(_take(request.param)))
    return path


def test_a_take_is_sent_as_recorded_and_a_missing_image_is_left_out(take_path: Path) -> None:
    source = open_source(str(take_path))
    shots = list(replay(source))
    assert [message.sequence for _, message in shots] == [0, 1, 2, 3]
    assert [message.t_ns for _, message in shots] == _TIMES.tolist()
    assert [len(message.frames) for _, message in shots] == [2, 3, 3, 3]
    mouth = shots[0][1].frames[-1]
    assert (mouth.camera, mouth.width, mouth.height) == (Camera.MOUTH, 24, 16)
    if mouth.encoding is Encoding.GRAY8:
        assert bytes(mouth.payload) == smooth_image(16, 24, 20).tobytes()
    assert source.reference is not None
    assert source.reference.names == EU_NAMES


def test_capture_times_go_on_rising_across_passes(take_path: Path) -> None:
    messages = replay(open_source(str(take_path)), loop=True)
    times_ms = [next(messages)[1].t_ns // 1_000_000 for _ in range(9)]
    assert times_ms == [100, 300, 400, 700, 900, 1100, 1200, 1500, 1700]


def test_a_rate_sets_the_times_of_all_passes(take_path: Path) -> None:
    messages = replay(open_source(str(take_path)), 50.0, loop=True)
    found = [next(messages) for _ in range(6)]
    assert [message.t_ns // 1_000_000 for _, message in found] == [0, 20, 40, 60, 80, 100]
    assert [shot.index for shot, _ in found] == [0, 1, 2, 3, 0, 1]
    assert [message.sequence for _, message in found] == list(range(6))


def test_raw_takes_become_jpeg_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "a.take"
    path.write_bytes(write_take(_take(Encoding.GRAY8)))
    _, message = next(replay(open_source(str(path), 90)))
    assert {frame.encoding for frame in message.frames} == {Encoding.JPEG}


@pytest.mark.parametrize("layout", ["flat", "folders"])
def test_a_folder_of_images_in_both_layouts(tmp_path: Path, layout: str) -> None:
    for camera in Camera:
        for number in range(3):
            if layout == "flat":
                path = tmp_path / f"{camera.label}_{number:03}.png"
            else:
                path = tmp_path / camera.label / f"{7 * number:05}.png"
                path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), smooth_image(20, 30, 10 * camera + number))
    (tmp_path / "notes.txt").write_text("not an image")
    shots = list(replay(open_source(str(tmp_path))))
    assert len(shots) == 3
    assert [bytes(frame.payload) for frame in shots[2][1].frames] == [
        smooth_image(20, 30, 10 * camera + 2).tobytes() for camera in Camera
    ]
    assert shots[1][1].t_ns == 33_333_333


def _write_video(path: Path, count: int = 5) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (96, 32))
    assert writer.isOpened()
    for number in range(count):
        strip = np.concatenate([np.full((32, 32, 3), 60 * camera + number, np.uint8) for camera in Camera], 1)
        writer.write(strip)
    writer.release()


def test_a_video_of_three_cameras_side_by_side_is_cut(tmp_path: Path) -> None:
    _write_video(tmp_path / "strip.avi")
    shots = list(replay(open_source(str(tmp_path / "strip.avi"))))
    assert len(shots) == 5
    assert [message.t_ns // 1_000_000 for _, message in shots] == [0, 40, 80, 120, 160]
    for camera, frame in zip(Camera, shots[4][1].frames, strict=True):
        assert (frame.camera, frame.width, frame.height) == (camera, 32, 32)
        assert abs(np.frombuffer(frame.payload, np.uint8).mean() - (60 * camera + 4)) < 4


def test_a_video_of_one_camera_is_sent_whole(tmp_path: Path) -> None:
    _write_video(tmp_path / "one.avi")
    messages = replay(open_source(str(tmp_path / "one.avi"), 90, Camera.MOUTH), loop=True)
    found = [next(messages)[1] for _ in range(7)]
    assert [[(frame.camera, frame.width) for frame in message.frames] for message in found] == [
        [(Camera.MOUTH, 96)]
    ] * 7
    assert [message.t_ns // 1_000_000 for message in found] == list(range(0, 280, 40))


def test_a_clip_is_sent_with_its_times_and_reference(tmp_path: Path) -> None:
    pixels: dict[str, Any] = {camera.label: np.stack([smooth_image(16, 16, camera)] * 4) for camera in Camera}
    reference = np.zeros((4, 2), np.float32)
    np.savez(tmp_path / "c.npz", **pixels, t_ns=_TIMES, reference=reference, reference_names=["jawOpen", "browInnerUp"])
    source = open_source(str(tmp_path / "c.npz"))
    assert [message.t_ns for _, message in replay(source)] == _TIMES.tolist()
    assert source.reference is not None
    assert source.reference.names == ("jawOpen", "browInnerUp")


def test_real_clips_can_be_sent(real_clips: list[Path]) -> None:
    source = open_source(str(real_clips[0]))
    shots = list(replay(source))
    assert source.reference is not None
    assert len(shots) == len(source.reference.values_TN)
    assert all(len(message.frames) == 3 for _, message in shots)


def test_a_pickled_array_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", t_ns=np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(SourceError, match=r"should hold left_eye"):
        open_source(str(tmp_path / "c.npz"))


def test_what_is_not_there_is_named_as_missing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nothing at") as absent:
        open_source(str(tmp_path / "none.take"))
    assert absent.value.missing
    with pytest.raises(SourceError, match="images of cameras") as empty:
        open_source(str(tmp_path))
    assert not empty.value.missing


@pytest.mark.parametrize("name", ["a.take", "a.npz", "a.mp4", "mouth_0.png"])
def test_a_broken_file_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"broken")
    with pytest.raises(SourceError, match=name):
        list(replay(open_source(str(tmp_path if name.endswith("png") else tmp_path / name))))


def test_agreement_is_pearsons_r_of_each_channel_that_moves() -> None:
    rng = np.random.default_rng(0)
    curves_TN = rng.random((50, 4)).astype(np.float32)
    curves_TN[:, 3] = 0.5
    agreement = Agreement(Reference(("jawOpen", "browInnerUp", "unknownShape", "tongueOut"), curves_TN))
    for _ in range(2):
        for index, row in enumerate(curves_TN):
            values_E = np.zeros(EU_COUNT, np.float32)
            values_E[EU_INDEX["jawOpen"]] = 0.2 + 0.5 * row[0]
            values_E[EU_INDEX["browInnerUpLeft"]] = 1 - row[1]
            values_E[EU_INDEX["browInnerUpRight"]] = 1 - row[1]
            agreement.add(index, values_E)
    assert agreement.correlations() == pytest.approx({"jawOpen": 1.0, "browInnerUp": -1.0}, abs=1e-5)


def test_too_few_answers_make_no_agreement() -> None:
    agreement = Agreement(Reference(("jawOpen",), np.random.default_rng(0).random((50, 1)).astype(np.float32)))
    for index in range(9):
        agreement.add(index, np.full(EU_COUNT, index / 9, np.float32))
    assert agreement.correlations() == {}
