"""The folded head against the contract's arithmetic, and heads that come and go."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from model_export.contract import EU_NAMES, FEATURE_COUNT, Camera, Head, HeadError, RegionHead
from service.heads import FoldedHead, Heads
from service.signals import EUS_S, GAZE_S, SIGNAL_COUNT, SIGNALS
from tests.bundles import make_head, make_region_head


def features(seed: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal((3, FEATURE_COUNT)).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("reads_map", [False, True])
def test_the_folded_head_gives_what_the_contract_says(seed: int, reads_map: bool) -> None:
    left, right, mouth = (make_region_head(camera, seed, reads_map=reads_map) for camera in Camera)
    head = Head(left, right, mouth, "")
    features_CF = features(seed)
    signals_S = np.full(SIGNAL_COUNT, np.nan, np.float32)
    folded = FoldedHead(head)
    confidences = [folded.apply(camera, features_CF[camera], signals_S) for camera in Camera]
    left_O, right_O, mouth_O = (head[camera].apply(features_CF[camera : camera + 1])[0] for camera in Camera)
    expected_E = np.concatenate([left_O[:12], right_O[:12], mouth_O[:32]]).clip(0, 1)
    np.testing.assert_allclose(signals_S[EUS_S], expected_E, atol=2e-5)
    # towards the temple is towards the wearer's left for the left eye, and away from it for the right
    np.testing.assert_allclose(signals_S[GAZE_S], [left_O[12], left_O[13], -right_O[12], right_O[13]], atol=1e-4)
    logits = [float(out_O[-1]) for out_O in (left_O, right_O, mouth_O)]
    assert confidences == pytest.approx([1 / (1 + np.exp(-logit)) for logit in logits], abs=1e-6)


def test_regions_may_have_adapters_of_different_sizes_or_none() -> None:
    head = make_head(1)
    none = RegionHead(
        head.right_eye.down_FA[:, :0],
        head.right_eye.down_bias_A[:0],
        head.right_eye.up_AF[:0],
        head.right_eye.weight_FO,
        head.right_eye.bias_O,
    )
    head = replace(head, right_eye=none)
    features_CF = features(2)
    signals_S = np.zeros(SIGNAL_COUNT, np.float32)
    FoldedHead(head).apply(Camera.RIGHT_EYE, features_CF[1], signals_S)
    expected_O = none.apply(features_CF[1:2])[0]
    found = signals_S[[SIGNALS.index(name) for name in EU_NAMES[12:24]]]
    np.testing.assert_allclose(found, expected_O[:12].clip(0, 1), atol=1e-5)


def test_only_the_camera_that_came_is_written() -> None:
    signals_S = np.full(SIGNAL_COUNT, -5, np.float32)
    FoldedHead(make_head(0)).apply(Camera.MOUTH, features(0)[2], signals_S)
    assert (signals_S[:28] == -5).all()
    assert (signals_S[28:] >= 0).all()


def test_extreme_numbers_stay_in_range() -> None:
    head = make_head(0)
    signals_S = np.zeros(SIGNAL_COUNT, np.float32)
    for sign in (-1, 1):
        huge_F = np.full(FEATURE_COUNT, sign * 1e6, np.float32)
        for camera in Camera:
            assert 0 <= FoldedHead(head).apply(camera, huge_F, signals_S) <= 1
        assert 0 <= signals_S[EUS_S].min() <= signals_S[EUS_S].max() <= 1
        assert np.abs(signals_S[GAZE_S]).max() <= 90


def test_a_wearer_without_an_own_head_gets_the_universal_one() -> None:
    universal, own = make_head(0), make_head(1, head_version=3)
    heads = Heads(universal)
    assert heads.current("ada") is universal
    assert heads.swap("ada", own) is universal
    assert heads.current("ada") is own
    assert heads.current("bo") is universal
    assert heads.swap("ada", make_head(2, head_version=4)) is own
    heads.forget("ada")
    heads.forget("nobody")
    assert heads.current("ada") is universal


def test_a_head_for_other_backbones_is_refused_and_the_old_one_stays() -> None:
    heads = Heads(make_head(0, backbone_digest="aa" * 32))
    own = make_head(1, backbone_digest="aa" * 32, head_version=1)
    heads.swap("ada", own)
    with pytest.raises(HeadError, match=f"'ada' should be fitted for backbones {'aa' * 6}. Found {'bb' * 6}"):
        heads.swap("ada", make_head(2, backbone_digest="bb" * 32, head_version=2))
    assert heads.current("ada") is own


def test_a_reader_sees_a_whole_head_while_others_swap() -> None:
    versions = [make_head(seed, head_version=seed + 1) for seed in range(3)]
    heads = Heads(make_head(9))
    stop = threading.Event()

    def swap_on() -> None:
        while not stop.is_set():
            for head in versions:
                heads.swap("ada", head)

    thread = threading.Thread(target=swap_on)
    thread.start()
    known: list[Head] = [heads.current("nobody"), *versions]
    try:
        for _ in range(2000):
            folded = heads.folded("ada")
            assert any(folded.head is head for head in known)
    finally:
        stop.set()
        thread.join()
