import json
from pathlib import Path

from model_export.contract import EU_COUNT, EU_INDEX, EU_NAMES, LEFT_EYE_EUS, MOUTH_EUS, RIGHT_EYE_EUS


def test_set_1_has_56_different_names_in_camera_order() -> None:
    assert EU_COUNT == len(set(EU_NAMES)) == 56
    assert (len(LEFT_EYE_EUS), len(RIGHT_EYE_EUS), len(MOUTH_EUS)) == (12, 12, 32)
    assert EU_NAMES == LEFT_EYE_EUS + RIGHT_EYE_EUS + MOUTH_EUS
    assert all(EU_NAMES[index] == name for name, index in EU_INDEX.items())


def test_positions_that_clients_rely_on_never_move() -> None:
    assert [EU_INDEX[name] for name in ("eyeBlinkLeft", "eyeBlinkRight", "jawOpen", "mouthSmileLeft", "tongueOut")] == [
        0,
        12,
        24,
        37,
        55,
    ]


def test_every_arkit_name_is_in_the_set_or_split_into_halves(shared_dir: Path) -> None:
    arkit = json.loads((shared_dir / "lists" / "arkit_52.json").read_text())["names"]
    halves = {name for name in arkit if name not in EU_INDEX}
    assert halves == {"browInnerUp", "cheekPuff"}
    assert all(f"{name}{side}" in EU_INDEX for name in halves for side in ("Left", "Right"))
