"""The worker as the service sees it: real processes, with a learner that records, and once with the real one."""

import io
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.profiles import Profiles
from calibration.session_events import Event, Failed, Fitted, Judged, WorkerLost
from calibration.worker import Worker, WorkerConfig
from calibration.worker_messages import CropSet, WorkerMessage, frames_message, images_of, read_message, write_message
from model_export.contract import Camera, Head, write_head
from tests.bundles import make_bundle, make_crops, make_head
from tests.calibration.moving_pictures import Person, calibration

WAIT_S = 60
CROPS_BHW = make_crops(3)


def crop_set(number: int, *cameras: Camera) -> CropSet:
    return CropSet(number * 20_000_000, {camera: CROPS_BHW[camera] for camera in cameras or tuple(Camera)})


@dataclass
class Bench:
    """A worker and what it said."""

    events: "queue.SimpleQueue[Event]" = field(default_factory=queue.SimpleQueue)
    heads: dict[int, Head] = field(default_factory=dict)
    gauges: list[float] = field(default_factory=list)
    worker: Worker[CropSet] = field(init=False)

    def start(
        self, *command: str, crops_of: Callable[[CropSet], CropSet | None] = lambda one: one, most: int = 64
    ) -> None:
        config = WorkerConfig((sys.executable, *command), most_waiting=most)
        self.worker = Worker(config, crops_of, self.events.put, self.heads.__setitem__, self.gauges.append)
        self.worker.start()

    def record(self, recording: int, cue: str, frames: int = 5, *cameras: Camera) -> None:
        self.worker.begin(recording, cue)
        for number in range(frames):
            self.worker.offer(crop_set(number, *cameras))
        self.worker.end(recording)

    def next(self) -> Event:
        return self.events.get(timeout=WAIT_S)

    def judged(self, recording: int, cue: str) -> str | None:
        self.record(recording, cue)
        event = self.next()
        assert isinstance(event, Judged), event
        assert event.recording == recording
        return event.refusal


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.worker.stop()


@pytest.fixture
def recorder(bench: Bench, tmp_path: Path) -> Bench:
    bench.start("-m", "tests.calibration.recording_learner", "--folder", str(tmp_path))
    return bench


@pytest.fixture
def keeper(bench: Bench, tmp_path: Path) -> Bench:
    """The same for a wearer who keeps takes."""
    store = Profiles(tmp_path / "profiles")
    store.create("ada")
    store.give_consent("ada", "1", keep_takes=True)
    store.close()
    folder = str(tmp_path)
    bench.start("-m", "tests.calibration.recording_learner", "--folder", folder, "--profiles", f"{folder}/profiles")
    return bench


def test_takes_are_recorded_judged_and_fitted(recorder: Bench) -> None:
    assert recorder.judged(1, "rest") is None
    assert recorder.judged(2, "frown") == "too weak, 5 frames, rest here"
    assert recorder.judged(3, "smile") is None
    recorder.worker.fit(1, {"rest": 1, "smile": 3})
    fitted = recorder.next()
    assert isinstance(fitted, Fitted)
    assert (fitted.fit, fitted.better) == (1, True)
    assert fitted.report == {"rest": [5, ["left_eye", "mouth", "right_eye"]], "smile": fitted.report["smile"]}
    assert recorder.heads[1].report == {"from": 0}


def test_the_gauge_is_told_while_a_recording_runs_and_a_rest_is_known(recorder: Bench) -> None:
    recorder.judged(1, "rest")
    assert recorder.gauges == []
    recorder.worker.offer(crop_set(0))  # between recordings
    recorder.judged(2, "smile")
    assert recorder.gauges == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_the_head_in_use_is_fitted_from_and_kept_where_nothing_is_better(recorder: Bench) -> None:
    recorder.judged(1, "rest")
    recorder.judged(2, "cheeks")
    recorder.worker.fit(4, {"rest": 1, "cheeks": 2}, write_head(make_head(2, head_version=6)))
    fitted = recorder.next()
    assert isinstance(fitted, Fitted)
    assert not fitted.better
    assert recorder.heads == {}


def test_a_failed_fit_and_a_missing_recording_are_told(recorder: Bench) -> None:
    recorder.judged(1, "tongue")
    for recordings, reason in (({"tongue": 1}, "Found short ones"), ({"tongue": 9}, "Recording 9 is not here")):
        recorder.worker.fit(1, recordings)
        failed = recorder.next()
        assert isinstance(failed, Failed)
        assert reason in failed.reason


def test_discarded_recordings_and_frames_outside_of_recordings_are_forgotten(recorder: Bench) -> None:
    recorder.worker.offer(crop_set(0))
    recorder.worker.begin(1, "rest")
    recorder.worker.offer(crop_set(1))
    recorder.worker.discard(1)
    recorder.worker.end(1)
    recorder.worker.offer(crop_set(2))
    recorder.record(2, "frown", 3)
    event = recorder.next()
    assert isinstance(event, Judged)
    assert (event.recording, event.refusal) == (2, "too weak, 3 frames, rest missing")
    recorder.judged(3, "rest")
    recorder.worker.forget()
    recorder.worker.fit(1, {"rest": 3})
    assert isinstance(recorder.next(), Failed)


def test_a_recording_without_frames_is_refused(recorder: Bench) -> None:
    recorder.record(1, "rest", 0)
    event = recorder.next()
    assert isinstance(event, Judged)
    assert "Found none" in str(event.refusal)


def test_a_camera_that_comes_and_goes_leaves_gaps(recorder: Bench) -> None:
    recorder.worker.begin(1, "smile")
    for number in range(6):
        recorder.worker.offer(crop_set(number, *((Camera.MOUTH,) if number % 2 else tuple(Camera))))
    recorder.worker.end(1)
    assert isinstance(recorder.next(), Judged)
    recorder.worker.fit(1, {"smile": 1})
    fitted = recorder.next()
    assert isinstance(fitted, Fitted)
    assert fitted.report["smile"] == [6, ["left_eye", "mouth", "right_eye"]]


def test_a_dead_worker_is_replaced_and_says_what_is_lost(recorder: Bench) -> None:
    recorder.judged(1, "rest")
    recorder.record(2, "jaw_open")
    lost = recorder.next()
    assert isinstance(lost, WorkerLost)
    assert lost.kept == frozenset()
    assert recorder.judged(3, "jaw_open") is None


def test_kept_takes_survive_their_worker(keeper: Bench, tmp_path: Path) -> None:
    keeper.judged(1, "rest")
    keeper.judged(2, "smile")
    keeper.record(3, "jaw_open")  # dies over it
    lost = keeper.next()
    assert isinstance(lost, WorkerLost)
    assert lost.kept == {"rest", "smile"}
    keeper.worker.fit(1, {"rest": 1, "smile": 2})
    fitted = keeper.next()
    assert isinstance(fitted, Fitted)
    assert fitted.report["smile"][0] == 5
    assert [take.cue for take in Profiles(tmp_path / "profiles").profile("ada").takes] == ["rest", "smile"]


def test_a_kept_take_that_was_deleted_meanwhile_is_asked_for_again(keeper: Bench, tmp_path: Path) -> None:
    keeper.judged(1, "rest")
    store = Profiles(tmp_path / "profiles")
    store.withdraw_consent("ada")
    assert keeper.worker.pid is not None
    os.kill(keeper.worker.pid, signal.SIGKILL)
    lost = keeper.next()
    assert isinstance(lost, WorkerLost)
    assert lost.kept == frozenset()
    assert "agreed" in str(keeper.judged(2, "rest"))


def test_a_worker_that_cannot_start_is_given_up(bench: Bench) -> None:
    bench.start("-c", "raise SystemExit(3)")
    assert [type(bench.next()) for _ in range(3)] == [WorkerLost] * 3
    time.sleep(0.3)
    assert bench.events.empty()


def test_a_worker_that_speaks_nonsense_is_replaced(bench: Bench) -> None:
    bench.start("-c", "print('hello, this is no message')")
    assert isinstance(bench.next(), WorkerLost)


def test_a_slow_worker_costs_frames_and_nothing_else(bench: Bench) -> None:
    gate = threading.Event()
    sent: list[int] = []

    def crops_of(crops: CropSet) -> CropSet | None:
        gate.wait(WAIT_S)
        sent.append(crops.t_ns)
        return None

    bench.start("-c", "import sys; sys.stdin.read()", crops_of=crops_of, most=8)
    start_s = time.perf_counter()
    for number in range(500):
        bench.worker.offer(crop_set(number))
    assert time.perf_counter() - start_s < 2, "offering never waits"
    assert bench.worker.drops in (491, 492), "the oldest went, but for the one in hand"
    gate.set()
    deadline_s = time.monotonic() + WAIT_S
    while len(sent) < 500 - bench.worker.drops and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert sent[-8:] == [number * 20_000_000 for number in range(492, 500)]


def test_stopping_kills_a_busy_worker_at_once(recorder: Bench) -> None:
    recorder.judged(1, "rest")
    recorder.record(2, "stretch")
    time.sleep(0.2)
    pid = recorder.worker.pid
    assert pid is not None
    start_s = time.perf_counter()
    recorder.worker.stop()
    assert time.perf_counter() - start_s < 2
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert recorder.events.empty()


def test_a_worker_ends_when_its_service_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom calibration.worker import Worker, WorkerConfig\n"
        f"command = (sys.executable, '-m', 'tests.calibration.recording_learner', '--folder', {str(tmp_path)!r})\n"
        "worker = Worker(WorkerConfig(command), lambda one: one, print, lambda *_: None)\nworker.start()\n"
        "while worker.pid is None: time.sleep(0.01)\n"
        "assert 'torch' not in sys.modules\nprint(worker.pid, flush=True)\ntime.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(600):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid}/stat").exists() and ") Z " in Path(f"/proc/{pid}/stat").read_text(encoding="ascii"):
            return  # dead, and nobody's child any more
        time.sleep(0.1)
    raise AssertionError("the worker outlives its service")


@given(st.text(max_size=20), st.integers(-(2**62), 2**62), st.binary(max_size=200), st.integers(0, 300))
def test_messages_come_back_as_they_went_or_not_at_all(text: str, number: int, data: bytes, cut: int) -> None:
    message = WorkerMessage("judged", {"refusal": text, "recording": number}, data)
    pipe = io.BytesIO()
    write_message(pipe, message)
    whole = pipe.getvalue()
    assert read_message(io.BytesIO(whole)) == message
    if cut < len(whole):
        assert read_message(io.BytesIO(whole[:cut])) is None


def test_a_frame_set_comes_back_from_its_message() -> None:
    t_ns, images = images_of(frames_message(crop_set(3, Camera.MOUTH, Camera.LEFT_EYE)))
    assert t_ns == 60_000_000
    assert images == {camera: CROPS_BHW[camera].tobytes() for camera in (Camera.MOUTH, Camera.LEFT_EYE)}


def test_the_real_worker_judges_by_movement(bench: Bench, tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    config = WorkerConfig.for_bundle(tmp_path / "bundle")
    bench.start(*config.command[1:])
    assert bench.worker.ready.wait(WAIT_S)
    random = np.random.default_rng(0)
    for recording, cue in ((1, "rest"), (2, "smile")):
        bench.worker.begin(recording, cue)
        for number in range(90):
            noise_BHW = np.clip(CROPS_BHW + random.normal(0, 2, CROPS_BHW.shape), 0, 255).astype(np.uint8)
            bench.worker.offer(CropSet(number * 33_000_000, {camera: noise_BHW[camera] for camera in Camera}))
            time.sleep(0.01)
        bench.worker.end(recording)
    rest, smile = bench.next(), bench.next()
    assert isinstance(rest, Judged)
    assert isinstance(smile, Judged)
    assert rest.refusal is None
    assert smile.refusal is not None, "nothing moved"
    assert bench.worker.pid is not None
    assert os.getpriority(os.PRIO_PROCESS, bench.worker.pid) == 19


def test_the_real_worker_re_centres_without_torch(bench: Bench, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")  # random weights: rest reads about .5
    (tmp_path / "torch.py").write_text("raise SystemExit('torch is loaded')")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        bench.start(*WorkerConfig.for_bundle(tmp_path / "bundle", recentre=True).command[1:])
        assert bench.worker.ready.wait(WAIT_S)
    (take,) = calibration(Person(), ("rest",))
    bench.worker.begin(1, "rest")
    for row, t_ns in enumerate(take.t_ns.tolist()):
        crops = {
            camera: np.frombuffer(images[row], np.uint8).reshape(take.size_px) for camera, images in take.images.items()
        }
        bench.worker.offer(CropSet(t_ns, crops))
        time.sleep(0.005)
    bench.worker.end(1)
    judged = bench.next()
    assert isinstance(judged, Judged)
    assert judged.refusal is None
    own = make_head(backbone_digest=bundle.backbone_digest, head_version=4)
    for fit, current, parent in ((1, b"", 0), (2, write_head(own), 4)):
        bench.worker.fit(fit, {"rest": 1}, current)
        fitted = bench.next()
        assert isinstance(fitted, Fitted), fitted
        assert fitted.better
        assert fitted.report["origin"] == "recentred"
        assert bench.heads[fit].parent == parent
    bench.worker.fit(3, {"rest": 1}, write_head(make_head(backbone_digest="cd" * 32)))
    failed = bench.next()
    assert isinstance(failed, Failed)
    assert "fitted for backbones" in failed.reason


@pytest.mark.slow
def test_the_real_worker_learns_from_a_moving_face(bench: Bench, tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    bench.start(*WorkerConfig.for_bundle(tmp_path / "bundle").command[1:])
    takes = calibration(Person(), ("rest", "jaw_open", "smile"))
    assert bench.worker.ready.wait(WAIT_S)
    for recording, take in enumerate(takes, 1):
        bench.worker.begin(recording, take.cue)
        for row, t_ns in enumerate(take.t_ns.tolist()):
            crops = {
                camera: np.frombuffer(images[row], np.uint8).reshape(take.size_px)
                for camera, images in take.images.items()
            }
            bench.worker.offer(CropSet(t_ns, crops))
            time.sleep(0.005)
        bench.worker.end(recording)
        judged = bench.next()
        assert isinstance(judged, Judged)
        assert judged.refusal is None, (take.cue, judged.refusal)
    assert bench.worker.drops == 0
    bench.worker.fit(1, {take.cue: recording for recording, take in enumerate(takes, 1)})
    fitted = bench.next()
    assert isinstance(fitted, Fitted), fitted
    assert fitted.report
    assert fitted.better == (1 in bench.heads)
