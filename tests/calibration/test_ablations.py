"""The ablations: each variant changes what it says and nothing else, ends agree with the comparison of methods, the command."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from calibration.ablations import ROWS, UNIVERSAL, AblatedWearer, ablate_wearer, summary, table
from calibration.calibrate import CalibrateConfig, calibrate
from calibration.evaluate import METHODS, evaluate_wearer
from calibration.fit import FitConfig
from calibration.material import FitTake, material_of
from calibration.movement import FEATURES
from calibration.rested import rest_features
from calibration.seen import Sight
from calibration.segments import Phase
from calibration.targets import targets_from
from calibration.variants import FULL, VARIANTS, Measured, Variant, measure, phases_of, variants_of
from model_export.contract import (
    EU_COUNT,
    EU_INDEX,
    LAST_COUNT,
    MAP_COUNT,
    Bundle,
    Camera,
    Take,
    cue_by_name,
    read_bundle,
    rested,
    write_bundle,
    write_take,
)
from service.command import main
from tests.bundles import make_bundle, make_resting
from tests.calibration.moving_pictures import Person, calibration

JAW = EU_INDEX["jawOpen"]
CUED = ("eyes_closed", "brows_up", "jaw_open", "smile")
ASKED = ("rest", "eyes_closed", "brows_up", "look", "jaw_open", "smile")
CONFIG = CalibrateConfig()


def knowing_bundle(folder: Path) -> Bundle:
    """A small bundle with what rest tells."""
    bundle = make_bundle(folder)
    random = np.random.default_rng(5)
    slip_M4 = np.zeros((MAP_COUNT, 4), np.float32)
    slip_M4[:, 0] = 2 / MAP_COUNT  # about a pixel for a look
    eye_FO, mouth_FO = (random.normal(0, 1e-3, (LAST_COUNT, outputs)).astype(np.float32) for outputs in (15, 33))
    resting = make_resting(eye_shift_FO=eye_FO, mouth_shift_FO=mouth_FO, eye_slip_M4=slip_M4, mouth_slip_M4=slip_M4)
    return write_bundle(folder, replace(bundle, resting=resting))


@pytest.fixture(scope="module")
def recorded() -> list[Take]:
    return calibration(Person(), ASKED)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return knowing_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture(scope="module")
def measured(recorded: list[Take], bundle: Bundle) -> Measured:
    return measure(recorded, bundle)


@pytest.fixture(scope="module")
def variants(measured: Measured, bundle: Bundle) -> dict[str, Variant]:
    return variants_of(measured, bundle, CONFIG)


def of(variant: Variant, cue: str) -> FitTake:
    return next(take for take in variant.takes if take.seen.cue == cue)


def cues_of(variant: Variant) -> list[str]:
    return [take.seen.cue for take in variant.takes]


def same_targets(one: Variant, other: Variant) -> bool:
    return cues_of(one) == cues_of(other) and all(
        np.array_equal(getattr(a.targets, name), getattr(b.targets, name))
        for a, b in zip(one.takes, other.takes, strict=True)
        for name in ("values_TE", "confidence_TE", "repetition_T")
    )


def test_every_variant_is_made_and_none_is_the_full_method(variants: dict[str, Variant]) -> None:
    assert tuple(variants) == tuple(VARIANTS)
    full = variants[FULL]
    assert cues_of(full) == list(ASKED)
    for name, one in variants.items():
        told = one.head is full.head and one.resting is full.resting
        told &= one.config == full.config and one.looked is full.looked
        alike = name in (FULL, "first 12 cues")  # this person is asked for none of the later ones
        assert (told and same_targets(one, full)) == alike, name


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("pull / 10", replace(CONFIG, fit=FitConfig(eye_pull=300.0, mouth_pull=3000.0))),
        ("pull x 10", replace(CONFIG, fit=FitConfig(eye_pull=3e4, mouth_pull=3e5))),
        ("no gate", replace(CONFIG, use_gate=False)),
    ],
)
def test_variants_of_the_configuration_change_nothing_else(
    variants: dict[str, Variant], name: str, config: CalibrateConfig
) -> None:
    assert variants[name].config == config
    assert replace(variants[name], config=CONFIG) == variants[FULL]


def test_unplaced_crops_are_those_of_the_rig(variants: dict[str, Variant], measured: Measured) -> None:
    one, full = variants["not placed"], variants[FULL]
    assert one.looked is measured.unplaced
    assert full.looked is measured.placed
    assert not one.looked.slips
    assert full.looked.slips
    assert same_targets(one, full)
    camera = next(iter(full.looked.slips))
    for take, unplaced, whole in zip(one.takes, measured.unplaced.seen, full.takes, strict=True):
        assert take.seen is unplaced
        assert not np.array_equal(take.seen.features[camera], whole.seen.features[camera])


def test_without_resting_all_else_stays(variants: dict[str, Variant]) -> None:
    assert variants["no resting"].resting is None
    assert replace(variants["no resting"], resting=variants[FULL].resting) == variants[FULL]


def test_a_rest_that_is_not_fitted_to_moves_the_offsets_all_the_same(
    variants: dict[str, Variant], bundle: Bundle
) -> None:
    one = variants["no rest in the fit"]
    assert cues_of(one) == cues_of(variants[FULL])[1:]
    rest = rest_features([of(variants["not compared"], "rest").seen])
    moved_head = rested(bundle.head, rest, bundle.resting)
    found = calibrate(one.takes, one.head, config=CONFIG, rest=one.looked.rest, resting=one.resting)
    for camera in Camera:
        np.testing.assert_array_equal(found.head.rest[camera], moved_head.rest[camera])
        np.testing.assert_array_equal(found.head.neutral[camera], moved_head.neutral[camera])


def test_frames_that_are_compared_with_nothing_are_seen_otherwise_and_so_is_the_head(
    variants: dict[str, Variant],
) -> None:
    one, full = variants["not compared"], variants[FULL]
    assert same_targets(one, full)
    for plain, compared in zip(one.takes, full.takes, strict=True):
        for camera, features_TF in plain.seen.features.items():
            same_TF = features_TF == compared.seen.features[camera]
            assert same_TF[:, LAST_COUNT:].all()
            assert not same_TF[:, :LAST_COUNT].any(axis=1).all()
    assert one.looked.slips == full.looked.slips
    assert not calibrate(one.takes, one.head, config=CONFIG, rest=one.looked.rest, resting=one.resting).head.neutral


def test_labels_count_fully_where_there_is_one(variants: dict[str, Variant]) -> None:
    for fully, take in zip(variants["labels fully"].takes, variants[FULL].takes, strict=True):
        np.testing.assert_array_equal(fully.targets.confidence_TE, take.targets.confidence_TE > 0)
    ours_T = of(variants[FULL], "jaw_open").targets.confidence_TE[:, JAW]
    assert len(np.unique(ours_T[ours_T > 0])) > 1


def test_eus_that_were_not_asked_for_are_told_half_or_0_or_nothing(
    variants: dict[str, Variant], bundle: Bundle
) -> None:
    jaw = JAW - 24
    told: dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]] = {}
    for name in (FULL, "unasked told 0", "unasked untold"):
        takes = [of(variants[name], cue) for cue in ("smile", "jaw_open", "rest")]
        material = material_of(Camera.MOUTH, bundle.head.mouth, takes, variants[name].config.material)
        count = len(takes[0].seen)
        assert (material.weights_TO[count:, jaw] > 0).all(), name
        told[name] = material.targets_TO[:count, jaw], material.weights_TO[:count, jaw] > 0
    said_T = bundle.head.mouth.apply(of(variants[FULL], "smile").seen.features[Camera.MOUTH])[:, jaw].clip(0, 1)
    assert told[FULL][1].all()
    np.testing.assert_allclose(told[FULL][0], 0.5 * said_T, atol=1e-6)
    assert told["unasked told 0"][1].all()
    np.testing.assert_array_equal(told["unasked told 0"][0], 0)
    assert not told["unasked untold"][1].any()


def test_phases_are_those_that_targets_were_cut_into(variants: dict[str, Variant], measured: Measured) -> None:
    phases = phases_of(measured.sight)
    assert {cue for cue, _ in phases} == set(CUED)
    for (cue, _), phases_T in phases.items():
        repetition_T = of(variants[FULL], cue).targets.repetition_T
        np.testing.assert_array_equal(phases_T != Phase.REST, repetition_T >= 0)


def test_without_transitions_apexes_and_rest_are_left_whole(variants: dict[str, Variant], measured: Measured) -> None:
    phases = phases_of(measured.sight)
    for take, whole in zip(variants["no transitions"].takes, variants[FULL].takes, strict=True):
        key = whole.seen.cue, int(whole.seen.t_ns[0])
        if key not in phases:
            assert take is whole
            continue
        kept_T = np.isin(phases[key], (Phase.REST, Phase.APEX))
        assert 0 < kept_T.sum() < len(kept_T)
        np.testing.assert_array_equal(take.targets.t_ns, whole.targets.t_ns[kept_T])
        np.testing.assert_array_equal(take.targets.values_TE, whole.targets.values_TE[kept_T])
        np.testing.assert_array_equal(take.seen.features[Camera.MOUTH], whole.seen.features[Camera.MOUTH][kept_T])


@pytest.mark.parametrize(
    ("name", "inside"), [("flow alone", slice(0, 512)), ("appearance alone", slice(512, FEATURES))]
)
def test_one_half_of_movement_knows_nothing_of_the_other(
    variants: dict[str, Variant], measured: Measured, bundle: Bundle, name: str, inside: slice
) -> None:
    random = np.random.default_rng(3)
    takes = []
    for take in measured.sight.takes:
        cameras = {}
        for camera, seen in take.cameras.items():
            garbage_TF = random.normal(0, 9, seen.features_TF.shape).astype(np.float32)
            garbage_TF[:, inside] = seen.features_TF[:, inside]
            cameras[camera] = replace(seen, features_TF=garbage_TF)
        takes.append(replace(take, cameras=cameras))
    spoiled = variants_of(replace(measured, sight=Sight(tuple(takes), {})), bundle, CONFIG)
    assert same_targets(spoiled[name], variants[name])
    assert not same_targets(spoiled[FULL], variants[FULL])


def test_targets_with_slip_are_of_the_same_takes(variants: dict[str, Variant], measured: Measured) -> None:
    found = targets_from(measured.slipping)
    for take, targets in zip(variants["slip kept"].takes, found.accepted, strict=True):
        np.testing.assert_array_equal(take.targets.values_TE, targets.values_TE)
    assert variants["slip kept"].refused == len(found.refused)


def test_of_each_cue_one_repetition_is_left_and_what_has_none_is_whole(variants: dict[str, Variant]) -> None:
    assert variants["one repetition"].config == CONFIG
    assert variants["one repetition, no gate"] == replace(
        variants["one repetition"], config=replace(CONFIG, use_gate=False)
    )
    for take, whole in zip(variants["one repetition"].takes, variants[FULL].takes, strict=True):
        if take.seen.cue not in CUED:
            assert take is whole
            continue
        repetition_T = whole.targets.repetition_T
        assert set(take.targets.repetition_T.tolist()) == {-1, 0}
        assert (take.targets.repetition_T == 0).sum() == (repetition_T == 0).sum()
        second = int(np.flatnonzero(repetition_T == 1)[0])
        assert second - 12 < len(take.seen) <= second
        np.testing.assert_array_equal(take.targets.t_ns, whole.targets.t_ns[: len(take.seen)])


def test_the_first_cues_are_calibrated_with_alone(variants: dict[str, Variant]) -> None:
    assert cues_of(variants["first 12 cues"]) == list(ASKED)
    assert cues_of(variants["first 6 cues"]) == ["rest", "eyes_closed", "brows_up"]
    assert cues_of(variants["rest alone"]) == ["rest"]


def test_binary_labels_are_ends_of_the_scale_in_the_wearers_own_segments(
    variants: dict[str, Variant], measured: Measured
) -> None:
    phases = phases_of(measured.sight)
    for name in ("binary", "binary at graded size"):
        for take, steady in zip(variants[name].takes, variants["no transitions"].takes, strict=True):
            key = steady.seen.cue, int(steady.seen.t_ns[0])
            if key not in phases:
                assert take is steady
                continue
            apex_T = phases[key][np.isin(phases[key], (Phase.REST, Phase.APEX))] == Phase.APEX
            asked = list(cue_by_name(take.seen.cue).eu_indices)
            others = [e for e in range(EU_COUNT) if e not in asked]
            np.testing.assert_array_equal(take.targets.values_TE[:, others], steady.targets.values_TE[:, others])
            np.testing.assert_array_equal(take.targets.confidence_TE, steady.targets.confidence_TE)
            for e in asked:
                known_T = apex_T & (steady.targets.confidence_TE[:, e] > 0)
                graded = steady.targets.values_TE[known_T, e].mean()
                size = 1.0 if name == "binary" else graded
                np.testing.assert_allclose(take.targets.values_TE[:, e], np.where(apex_T, size, 0), atol=1e-6)
                assert 0.5 < graded < 0.9


def test_true_values_come_with_our_confidence_and_the_ceiling_with_all(
    variants: dict[str, Variant], recorded: list[Take]
) -> None:
    for true, known, ours, take in zip(
        variants["true values"].takes, variants["truth"].takes, variants[FULL].takes, recorded, strict=True
    ):
        np.testing.assert_array_equal(true.targets.values_TE, take.values_TE)
        np.testing.assert_array_equal(known.targets.values_TE, take.values_TE)
        np.testing.assert_array_equal(true.targets.confidence_TE, ours.targets.confidence_TE)
        assert (known.targets.confidence_TE == 1).all()


def test_takes_that_are_refused_are_counted(measured: Measured, bundle: Bundle) -> None:
    takes = list(measured.sight.takes)
    number = [take.cue for take in takes].index("smile")
    still = {
        camera: replace(seen, features_TF=np.zeros_like(seen.features_TF))
        for camera, seen in takes[number].cameras.items()
    }
    takes[number] = replace(takes[number], cameras=still)
    spoiled = variants_of(replace(measured, sight=Sight(tuple(takes), {})), bundle, CONFIG)
    assert "smile" not in cues_of(spoiled[FULL])
    refused = [spoiled[name].refused for name in (FULL, "no gate", "first 6 cues", "truth")]
    assert refused == [1, 1, 0, 0]


def ablated(name: str, full: float, universal: float = 0.2) -> AblatedWearer:
    rmse_VE = np.full((len(ROWS), EU_COUNT), full + 0.01)
    rmse_VE[ROWS.index(UNIVERSAL)], rmse_VE[ROWS.index(FULL)] = universal, full
    rmse_VE[ROWS.index("no gate")] = full
    return AblatedWearer(name, rmse_VE, np.ones(len(ROWS), int), np.full(len(ROWS), 40))


def test_the_summary_compares_with_universal_and_with_the_full_method() -> None:
    first, second = ablated("one", 0.18), ablated("two", 0.17)
    first.rmse_VE[ROWS.index("pull / 10"), JAW] = 0.3  # worse than universal for one, in the mean of both too
    second.rmse_VE[ROWS.index("no transitions")] = 0.16
    found = summary([first, second])
    full, pull, steady = (found["variants"][name] for name in (FULL, "pull / 10", "no transitions"))
    assert full["change"] == pytest.approx(0.175 / 0.2 - 1)
    assert (full["against_full"], full["full_better"], full["same_as_full"]) == (0, 0, 2)
    assert pull["against_full"] == pytest.approx((0.01 + 0.01 + (0.3 - 0.19) / EU_COUNT) / 2 / 0.2, abs=6e-5)
    assert (pull["eus_worse"], list(pull["eus_worse_on_average"])) == (0.5, ["jawOpen"])
    assert (steady["full_better"], steady["against_full"]) == (1, pytest.approx(0.0))
    assert steady["against_full_error"] == pytest.approx(0.01 / 0.2)  # of +.01 and -.01: half their distance
    assert steady["change_mouth"] == pytest.approx(0.175 / 0.2 - 1)
    assert found["variants"]["no gate"]["same_as_full"] == 2
    assert summary([first])["variants"]["no transitions"]["against_full_error"] is None
    text = table({"near": found})
    assert all(f"| {name} |" in text and f"- {name}: {what}" in text for name, what in VARIANTS.items())
    assert "| no transitions | -12.5% | -12.5% | -12.5% | +0.00 +- 5.00 | 1 |" in text
    assert "| no gate | -12.5% | -12.5% | -12.5% | the same | 0 |" in text
    assert json.loads(json.dumps(found)) == found


@pytest.fixture(scope="module")
def wearers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one wearer of few cues, as mien render-takes would write it, and a bundle beside it."""
    folder = tmp_path_factory.mktemp("ablated")
    takes = calibration(Person(), ("rest", "jaw_open", "smile"))
    place = folder / "near" / "wearer_00001"
    place.mkdir(parents=True)
    for number, take in enumerate(takes):
        (place / f"{number:02d}_{take.cue}.take").write_bytes(write_take(take))
    person = Person(noise=3.0)
    (place / "free_after.take").write_bytes(write_take(replace(person.take("smile", 90.0), cue="free")))
    (place / "rest_after.take").write_bytes(write_take(person.take("rest", 80.0)))
    knowing_bundle(folder / "bundle")
    return folder


@pytest.fixture(scope="module")
def found(wearers: Path) -> AblatedWearer:
    return ablate_wearer(read_bundle(wearers / "bundle"), wearers / "near" / "wearer_00001")


def test_the_ends_agree_with_the_comparison_of_methods(wearers: Path, found: AblatedWearer) -> None:
    methods = evaluate_wearer(read_bundle(wearers / "bundle"), wearers / "near" / "wearer_00001")
    for row, method in ((UNIVERSAL, "universal"), (FULL, "movement"), ("rest alone", "rested"), ("truth", "truth")):
        np.testing.assert_array_equal(found.rmse_VE[ROWS.index(row)], methods.rmse_ME[METHODS.index(method)])
    assert found.changed_V[ROWS.index(FULL)] == methods.eus_better > 0
    assert found.changed_V[ROWS.index("rest alone")] == 0


def test_the_command_repeats_what_was_found_writes_it_and_ends_with_one_line_of_json(
    wearers: Path, found: AblatedWearer, tmp_path: Path
) -> None:
    report = run(wearers, tmp_path, "ablations", "--ablations")
    assert (report["format"], report["version"]) == ("mien-calibration-ablations", 2)
    assert report["sets"] == {"near": summary([found])}
    assert report["what"] == VARIANTS


def test_without_the_option_methods_are_compared_as_before(wearers: Path, tmp_path: Path) -> None:
    report = run(wearers, tmp_path, "calibration")
    assert (report["format"], report["version"]) == ("mien-calibration-evaluation", 5)
    assert tuple(report["sets"]["near"]["methods"]) == METHODS


def run(wearers: Path, folder: Path, name: str, *options: str) -> dict[str, Any]:
    """The report that the command wrote as `name`, having printed its table and its errors."""
    places = ["--bundle", str(wearers / "bundle"), "--takes", str(wearers / "near"), "--out", str(folder / "out")]
    result = CliRunner().invoke(main, ["evaluate-calibration", *places, *options])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (folder / "out").iterdir()) == [f"{name}.json", f"{name}.md"]
    assert (folder / "out" / f"{name}.md").read_text() in result.stdout
    report: dict[str, Any] = json.loads((folder / "out" / f"{name}.json").read_text())
    rows = report["sets"]["near"]["variants" if options else "methods"]
    said = json.loads(result.stdout.splitlines()[-1])
    assert said["rmse"]["near"] == {row: one["rmse"] for row, one in rows.items()}
    return report
