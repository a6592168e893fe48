"""Shards, splits and batches: the right pixels with the right labels, or a refusal that names the file."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from model_export.augment import NO_AUGMENTATION, AugmentConfig
from model_export.batches import MOUTH_MIRROR, BatchSource, batches, eye_labels
from model_export.contract import EU_INDEX, LAST_COUNT, MAP_COUNT, MOUTH_EUS, NO_SLIP, Camera
from model_export.data import ShardEntry, check_digest, data_digest, list_shards, open_shard, split_wearers
from model_export.errors import DataError, TrainingError
from model_export.onnx_features import onnx_features
from model_export.places import Places
from model_export.placing import seen_through
from tests.bundles import make_bundle, make_resting


def entries_of(seeds: list[int]) -> list[ShardEntry]:
    return [ShardEntry(Path(f"{n}.safetensors"), f"{n:064x}", 10, f"train-{seed}") for n, seed in enumerate(seeds)]


def test_a_wearer_is_never_on_both_sides_of_the_split() -> None:
    entries = entries_of([seed for seed in range(40) for _ in range(3)])
    trained, unseen = split_wearers(entries, 0.1)
    assert not {entry.wearer for entry in trained} & {entry.wearer for entry in unseen}
    assert len({entry.wearer for entry in unseen}) == 4
    assert len(trained) + len(unseen) == len(entries)


def test_the_split_does_not_depend_on_the_order_of_shards() -> None:
    entries = entries_of(list(range(20)))
    first, second = split_wearers(entries, 0.2)[1], split_wearers(entries[::-1], 0.2)[1]
    assert {entry.wearer for entry in first} == {entry.wearer for entry in second}


def test_small_datasets_hold_out_one_wearer_and_keep_one() -> None:
    trained, unseen = split_wearers(entries_of([5, 6]), 0.9)
    assert (len(trained), len(unseen)) == (1, 1)


def test_holding_out_from_a_single_wearer_is_refused() -> None:
    with pytest.raises(DataError, match="2 wearers or more. Found 1"):
        split_wearers(entries_of([5, 5]), 0.1)


def test_a_shard_gives_what_was_written(disc_data: Path) -> None:
    shard = open_shard(list_shards(disc_data)[0])
    assert shard.mouth_THW.shape == (64, 128, 128)
    assert shard.values_TE.dtype == np.float32
    wide = int(shard.values_TE[:, EU_INDEX["jawOpen"]].argmax())
    shut = int(shard.values_TE[:, EU_INDEX["jawOpen"]].argmin())
    assert (shard.mouth_THW[wide] < 40).sum() > 2 * (shard.mouth_THW[shut] < 40).sum()


def test_data_that_is_not_there_yet_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Let the rendering finish"):
        list_shards(tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "JSON"),
        ('{"format": "mien-dataset", "version": 2}', "Found .'mien-dataset', 2"),
        ('{"format": "mien-dataset", "version": 1, "shards": []}', "Found none"),
    ],
)
def test_another_dataset_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=says):
        list_shards(tmp_path)


def test_damaged_shards_are_named(disc_data: Path, tmp_path: Path) -> None:
    entry = list_shards(disc_data)[0]
    path = tmp_path / "wearer_00001.safetensors"
    shutil.copy(entry.path, path)
    changed = ShardEntry(path, entry.sha256, entry.frames, entry.wearer)
    check_digest(changed)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="sha256"):
        check_digest(changed)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="cut off"):
        open_shard(changed)
    path.write_bytes(b"nonsense nonsense")
    with pytest.raises(DataError, match="wearer_00001"):
        open_shard(changed)
    with pytest.raises(DataError, match=r"should be I32 \[63"):
        open_shard(ShardEntry(entry.path, entry.sha256, 63, entry.wearer))


def test_the_data_digest_tells_other_data_apart() -> None:
    entries = entries_of([1, 2])
    assert data_digest(entries) != data_digest(entries[:1])


def test_right_eyes_are_seen_as_left_ones(disc_data: Path) -> None:
    entries = list_shards(disc_data)[:1]
    shard, batch = open_shard(entries[0]), BatchSource(entries, 64, NO_AUGMENTATION, seed=3)[0]
    for n in (0, 17, 63):
        t = next(t for t in range(64) if (shard.left_eye_THW[t] == batch.eye_pixels_BHW[n].numpy()).all())
        np.testing.assert_array_equal(batch.eye_pixels_BHW[64 + n].numpy(), shard.right_eye_THW[t][:, ::-1])
        np.testing.assert_array_equal(batch.eye_values_BE[n].numpy(), shard.values_TE[t, :12])
        np.testing.assert_array_equal(batch.eye_values_BE[64 + n].numpy(), shard.values_TE[t, 12:24])
        left_yaw, left_pitch, right_yaw, right_pitch = shard.gaze_T4[t]
        assert batch.eye_gaze_BO[n].tolist() == [left_yaw, left_pitch]
        assert batch.eye_gaze_BO[64 + n].tolist() == [-right_yaw, right_pitch]
        np.testing.assert_array_equal(batch.mouth_values_BE[n].numpy(), shard.values_TE[t, 24:])


def test_gaze_to_the_temple_is_positive_for_either_eye(disc_data: Path) -> None:
    shard = open_shard(list_shards(disc_data)[0])
    _, gaze_22 = eye_labels(shard, 0)
    assert gaze_22[:, 0].tolist() == [shard.gaze_T4[0, 0], -shard.gaze_T4[0, 2]]


def test_mirrored_mouths_swap_left_and_right() -> None:
    mirrored = [MOUTH_EUS[index] for index in MOUTH_MIRROR]
    pairs = dict(zip(MOUTH_EUS, mirrored, strict=True))
    assert pairs["mouthLeft"] == "mouthRight"
    assert pairs["jawRight"] == "jawLeft"
    assert pairs["cheekPuffLeft"] == "cheekPuffRight"
    assert pairs["jawOpen"] == "jawOpen"
    assert [mirrored[index] for index in MOUTH_MIRROR] == list(MOUTH_EUS)


def test_a_mirrored_mouth_has_the_labels_of_its_picture(disc_data: Path) -> None:
    entries = list_shards(disc_data)
    config = AugmentConfig(shift=1e-6, scale=0.0, rotation_deg=0.0, spoiled=0.0)
    batch = BatchSource(entries, 200, config, seed=1)[0]
    left, right = MOUTH_EUS.index("mouthLeft"), MOUTH_EUS.index("mouthRight")
    across_B = (batch.mouth_values_BE[:, left] - batch.mouth_values_BE[:, right]).numpy()
    band_BW = batch.mouth_pixels_BHW[:, 78:83].numpy().astype(float).mean(1)
    dark_BW = np.clip(np.median(band_BW, axis=1, keepdims=True) - band_BW, 0, None)
    place_B = (dark_BW * np.arange(128)).sum(1) / dark_BW.sum(1)
    assert np.corrcoef(across_B, place_B)[0, 1] > 0.6


def test_a_batch_is_a_function_of_seed_step_and_rank(disc_data: Path) -> None:
    entries = list_shards(disc_data)
    source = BatchSource(entries, 8, AugmentConfig(), seed=4)
    again = BatchSource(entries, 8, AugmentConfig(), seed=4)
    assert (source[5].mouth_pixels_BHW == again[5].mouth_pixels_BHW).all()
    assert (source[5].mouth_pixels_BHW != source[6].mouth_pixels_BHW).any()
    other_rank = BatchSource(entries, 8, AugmentConfig(), seed=4, rank=1, ranks=2)
    assert (other_rank[0].mouth_pixels_BHW != source[0].mouth_pixels_BHW).any()


def test_an_epoch_shows_every_frame_set_once_over_all_ranks(disc_data: Path) -> None:
    entries = list_shards(disc_data)[:1]
    sources = [BatchSource(entries, 8, NO_AUGMENTATION, seed=4, rank=rank, ranks=2) for rank in (0, 1)]
    assert sources[0].steps_per_epoch == 4
    shown = {
        bytes(crop_HW.numpy().tobytes())
        for source in sources
        for step in range(4)
        for crop_HW in source[step].mouth_pixels_BHW
    }
    assert len(shown) == 64


def test_frames_that_come_together_are_of_one_fitting(disc_data: Path) -> None:
    entries = list_shards(disc_data)
    source = BatchSource(entries, 8, NO_AUGMENTATION, seed=4, together=4)
    shown = set()
    for step in range(source.steps_per_epoch):
        batch = source[step]
        assert batch.mouth_of_rests_BR.shape[1] <= 2  # each of these wearers has one fitting
        assert (batch.mouth_of_rests_BR.sum(1) == 1).all(), "without augmentation all are compared with their rest"
        assert batch.mouth_of_rests_BR.argmax(1).view(2, 4).float().std(1).max() == 0
        shown |= {crop_HW.numpy().tobytes() for crop_HW in batch.mouth_pixels_BHW}
    assert len(shown) == sum(entry.frames for entry in entries)


def test_what_crops_are_compared_with_is_of_their_fitting_and_adds_to_one_or_nothing(disc_data: Path) -> None:
    entries = list_shards(disc_data)
    batch = BatchSource(entries, 32, AugmentConfig(spoiled=0.3), seed=6, together=32)[0]
    for intact_B, of_rests_BR, of_crops_BB in (
        (batch.eye_intact_B, batch.eye_of_rests_BR, batch.eye_of_crops_BB),
        (batch.mouth_intact_B, batch.mouth_of_rests_BR, batch.mouth_of_crops_BB),
    ):
        whole_B = of_rests_BR.sum(1) + of_crops_BB.sum(1)
        known_B = whole_B > 0
        assert 0.4 < known_B.float().mean() < 0.9
        np.testing.assert_allclose(whole_B[known_B], 1.0, rtol=1e-6)
        assert (of_crops_BB.diagonal() <= 0).all(), "no crop is compared with itself"
        assert (of_crops_BB[:, intact_B == 0] == 0).all(), "nor with what cannot be read"
        assert (of_crops_BB > 0).any()
    assert (batch.eye_of_crops_BB[:32, 32:] <= 0).all(), "a left eye is compared with left eyes"
    assert (batch.eye_of_crops_BB[32:, :32] <= 0).all()


def test_of_a_moving_face_a_share_of_what_sets_it_apart_is_known(disc_data: Path) -> None:
    """As contract.resting makes it in use: place + share (mean - moving)."""
    config = AugmentConfig(spoiled=0.2, compared=1.0, moving=1.0, least_own=0.5)
    batch = BatchSource(list_shards(disc_data), 32, config, seed=6, together=8)[0]
    of_rests_BR, of_crops_BB, intact_B = batch.mouth_of_rests_BR, batch.mouth_of_crops_BB, batch.mouth_intact_B
    np.testing.assert_allclose(of_crops_BB.sum(1), 0.0, atol=1e-6)  # what all moving faces share is taken out
    own_rest_B, strange_rest_B = of_rests_BR.max(1).values, of_rests_BR.min(1).values
    own_B = 1 - (strange_rest_B * of_rests_BR.shape[1])  # share of the rest that is the face's own
    np.testing.assert_allclose(own_rest_B - strange_rest_B, own_B, atol=1e-6)
    share_B = own_B + of_crops_BB.clamp(min=0).sum(1) / (1 - 7 / intact_B.sum())
    assert share_B.min() > 0.45
    assert share_B.max() < 1.1
    assert own_B.min() < 0.2
    assert own_B.max() > 0.6


def test_worker_processes_make_the_same_batches(disc_data: Path) -> None:
    source = BatchSource(list_shards(disc_data), 4, AugmentConfig(), seed=2)
    stream = batches(source, 7, workers=1)
    for step in (7, 8):
        assert (next(stream).eye_pixels_BHW == source[step].eye_pixels_BHW).all()


def test_a_shard_of_another_format_is_refused(disc_data: Path, tmp_path: Path) -> None:
    entry = list_shards(disc_data)[0]
    data = entry.path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"]["version"] = "9"
    packed = json.dumps(header).encode()
    path = tmp_path / "shard.safetensors"
    path.write_bytes(len(packed).to_bytes(8, "little") + packed + data[8 + size :])
    with pytest.raises(DataError, match="'9'"):
        open_shard(ShardEntry(path, "", entry.frames, "train-1"))


def test_equal_seeds_of_other_looks_are_other_wearers(disc_data: Path, tmp_path: Path) -> None:
    dataset = json.loads((disc_data / "dataset.json").read_text())
    names = {}
    for look in ("train", "near", "headset", "far"):
        (tmp_path / "dataset.json").write_text(json.dumps(dataset | {"config": {"look": look}}))
        names[look] = list_shards(tmp_path)[0].wearer
    assert names["near"] == names["headset"]
    assert len(set(names.values())) == 3


def test_placed_batches_are_cut_where_each_fittings_rest_says(disc_data: Path, tmp_path: Path) -> None:
    """These rests are one grey all over, so that each of three looks reads the same two pixels."""
    plain, entries = make_bundle(tmp_path / "bundle"), list_shards(disc_data)[:1]
    shard = open_shard(entries[0])
    rest_M = onnx_features(plain.mouth_onnx, np.ascontiguousarray(shard.rest_mouth_FHW), 1)[0, LAST_COUNT:]
    two_px_M4 = np.zeros((MAP_COUNT, 4), np.float32)
    two_px_M4[:, 0] = 2 / MAP_COUNT
    resting = make_resting(mouth_slip_M4=two_px_M4, mouth_place_M=rest_M - 1)
    slips = Places(plain, resting).of(shard)
    assert [slip.right_px for slip in slips[Camera.MOUTH]] == pytest.approx([0.8 * 6])
    assert slips[Camera.LEFT_EYE] == slips[Camera.RIGHT_EYE] == [NO_SLIP]
    placed = BatchSource(entries, 64, NO_AUGMENTATION, Places(plain, resting), seed=3)[0]
    as_rendered = BatchSource(entries, 64, NO_AUGMENTATION, seed=3)[0]
    assert (placed.mouth_values_BE == as_rendered.mouth_values_BE).all()
    assert (placed.eye_pixels_BHW == as_rendered.eye_pixels_BHW).all()
    for placed_HW, crop_HW in zip(placed.mouth_pixels_BHW.numpy(), as_rendered.mouth_pixels_BHW.numpy(), strict=True):
        expected_HW = seen_through(slips[Camera.MOUTH][0], crop_HW)
        np.testing.assert_allclose(placed_HW[:, :120].astype(int), expected_HW[:, :120].astype(int), atol=12)


def test_a_bundle_that_knows_no_places_cannot_place(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    with pytest.raises(TrainingError, match="should tell what a face at rest tells"):
        Places.read(tmp_path / "bundle")
    with pytest.raises(TrainingError, match="should be a bundle that places faces"):
        Places.read(tmp_path)
