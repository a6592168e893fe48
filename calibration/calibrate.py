"""From takes of one wearer to a head that is better for this wearer, or the old head: no files, no clock, no process.

Axes: T frame, O head output.

Every frame is compared with the face at rest. First the rest moves the offsets of the head in use, and of the universal one, by
what it tells of their answers (model_export.contract.resting); takes have no say in it, for it was learnt from free movement of
others, which they do not show.
Then, for each camera, the universal head and a head fitted from there are candidates; one after another they have to beat the
head in use on held-out repetitions, output by output (calibration.gate).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from calibration.fit import FitConfig, fit_region
from calibration.gate import GateConfig, Verdict, compose, judge
from calibration.material import EVERY_FIT, FitTake, Material, MaterialConfig, material_of
from calibration.observed import Observed
from calibration.rested import neutral_of
from calibration.targets import targets_from
from model_export.contract import Bundle, Camera, Head, HeadError, RegionHead, Resting, Slip, Take, rested

REPORT_FORMAT: Final = "mien-calibration-report"
REPORT_VERSION: Final = 2
"""1: eus (before, after, repetitions, improved, source), summary, steps of each region. 2: without steps."""
OLD: Final = "old"
RESTED: Final = "rested"
"""The head in use, moved by what the rest take tells."""
UNIVERSAL: Final = "universal"
FITTED: Final = "fitted"


@dataclass(frozen=True, slots=True)
class CalibrateConfig:
    """All that a calibration can be told."""

    material: MaterialConfig = field(default_factory=MaterialConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    use_gate: bool = True
    """Whether held-out takes judge; without, the fitted head is taken as it is. For experiments only."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What became of the takes."""

    head: Head
    """The head to use: the old one itself where nothing became better."""
    report: Mapping[str, Any]
    """What held-out takes say, EU by EU; JSON values; the same stands in a new head's `report`."""
    better: bool
    """Whether `head` is a new one."""
    refused: tuple[Any, ...] = ()
    """Takes that were not used, and why."""


def calibrate(
    takes: Sequence[FitTake],
    universal: Head,
    current: Head | None = None,
    config: CalibrateConfig | None = None,
    *,
    rest: Mapping[Camera, NDArray[np.float32]] | None = None,
    resting: Resting | None = None,
    slips: Mapping[Camera, Slip] | None = None,
) -> Calibration:
    """A new head for this wearer, if one is better than `current` (the universal one by default). Runs a second or two.

    The new head's version follows `current`'s, its parent is `current`. Raises HeadError when the two heads read the features of
    different backbones. `rest`: features [1280] of the face at rest, whose maps the takes' frames were compared with; `resting`:
    what the bundle knows of faces at rest; `slips`: what was taken out of the takes' crops.
    """
    rest = rest or {}
    config, current = config or CalibrateConfig(), current or universal
    if current.backbone_digest != universal.backbone_digest:
        raise HeadError(
            f"The wearer's head should be fitted for backbones {universal.backbone_digest[:12]}. "
            f"Found {current.backbone_digest[:12]}. Calibrate again with the bundle in use."
        )
    begun, base = rested(current, rest, resting), rested(universal, rest, resting)
    outcomes = {
        camera: _region(
            camera,
            takes,
            heads=_Heads(current[camera], begun[camera], current[camera] is universal[camera], base[camera]),
            config=config,
        )
        for camera in Camera
    }
    report = _report(outcomes)
    if all(source == OLD for outcome in outcomes.values() for source in outcome.sources):
        return Calibration(current, report, better=False)
    cameras = {camera for take in takes for camera in take.seen.features}
    unseen = {camera: slip for camera, slip in current.slip.items() if camera not in cameras}
    head = replace(
        begun,
        slip={**unseen, **(slips or {})},
        neutral={**begun.neutral, **base.neutral},
        reference={**current.reference, **neutral_of(rest)},
        left_eye=outcomes[Camera.LEFT_EYE].region,
        right_eye=outcomes[Camera.RIGHT_EYE].region,
        mouth=outcomes[Camera.MOUTH].region,
        head_version=current.head_version + 1,
        parent=current.head_version,
        report=report,
    )
    return Calibration(head, report, better=True)


def calibrate_takes(
    takes: Sequence[Take],
    bundle: Bundle,
    current: Head | None = None,
    config: CalibrateConfig | None = None,
    observed: Observed | None = None,
) -> Calibration:
    """The same from recordings: movement gives their targets, the bundle's backbones their features.

    What `observed` has measured in them already, with the same bundle, is not measured again.
    """
    observed = observed or Observed(bundle)
    sight = observed.sight(takes)
    found = targets_from(sight)
    by_start = {(take.cue, int(take.t_ns[0])): take for take in takes}
    rest = next((take for take in reversed(takes) if take.cue == "rest"), None)
    # A camera that was covered at rest tells nothing: neither where the face is nor what its answers are off by.
    pairs = [
        FitTake(observed.features(by_start[targets.cue, int(targets.t_ns[0])], rest).without(sight.unusable), targets)
        for targets in found.accepted
    ]
    at_rest = {camera: rest_F for camera, rest_F in observed.rest(rest).items() if camera not in sight.unusable}
    slips = {camera: slip for camera, slip in observed.placed(rest).items() if camera not in sight.unusable}
    outcome = calibrate(pairs, bundle.head, current, config, rest=at_rest, resting=bundle.resting, slips=slips)
    return replace(outcome, refused=tuple(found.refused))


@dataclass(frozen=True, slots=True)
class _Outcome:
    region: RegionHead
    sources: tuple[str, ...]
    """Where each output's weights come from."""
    verdicts: tuple[Verdict, ...]
    """Of each output, the error of the head in use before and of the one chosen."""


@dataclass(frozen=True, slots=True)
class _Heads:
    """One region's heads that a calibration begins with."""

    in_use: RegionHead
    begun: RegionHead
    """The one in use, moved by the rest take; itself where it was not."""
    is_universal: bool
    """Whether the one in use is the universal one."""
    base: RegionHead
    """The universal one, moved by the rest take: what is fitted."""


def _region(
    camera: Camera,
    takes: Sequence[FitTake],
    *,
    heads: _Heads,
    config: CalibrateConfig,
) -> _Outcome:
    material = material_of(camera, heads.base, takes, config.material)
    choice = _Choice(material, heads, config)
    if material.known_TO.any():
        if not heads.is_universal:
            choice.offer(UNIVERSAL, heads.base, heads.base.apply(material.features_TF))
        fitted = fit_region(heads.base, material, config.fit)
        if fitted.region is not heads.base:
            choice.offer(FITTED, fitted.region, fitted.held_out_TO)
    return _Outcome(choice.region, choice.sources, choice.verdicts())


class _Choice:
    """The head chosen so far, and what it says of held-out frames."""

    def __init__(self, material: Material, heads: _Heads, config: CalibrateConfig) -> None:
        self._material = material
        self._config = config
        self._before_TO, self._out_TO = (
            self._held_out(region.apply(material.features_TF)) for region in (heads.in_use, heads.begun)
        )
        self.region = heads.begun
        moved_O = heads.begun.bias_O != heads.in_use.bias_O
        self.sources: tuple[str, ...] = tuple(RESTED if moved else OLD for moved in moved_O)

    def offer(self, name: str, region: RegionHead, out_TO: NDArray[np.float32]) -> None:
        """Takes the candidate for those outputs that held-out frames say it is better for."""
        verdicts = judge(self._material, self._out_TO, self._held_out(out_TO), self._config.gate)
        better_O = np.array([verdict.better for verdict in verdicts])
        if not self._config.use_gate:
            better_O[:-1] = True
        try:
            self.region = compose(self.region, region, better_O)
        except HeadError:
            return  # the two do not mix: what is in use stays
        self._out_TO = np.where(better_O, self._held_out(out_TO), self._out_TO)
        self.sources = tuple(name if better else old for better, old in zip(better_O, self.sources, strict=True))

    def verdicts(self) -> tuple[Verdict, ...]:
        """The head in use before against the choice."""
        return judge(self._material, self._before_TO, self._out_TO, self._config.gate)

    def _held_out(self, out_TO: NDArray[np.float32]) -> NDArray[np.float32]:
        """Every fit saw the rest take; nobody is judged by it."""
        return np.where((self._material.fold_T == EVERY_FIT)[:, None], np.float32(np.nan), out_TO)


def _report(outcomes: Mapping[Camera, _Outcome]) -> dict[str, Any]:
    eus: dict[str, Any] = {}
    for outcome in outcomes.values():
        for source, verdict in zip(outcome.sources, outcome.verdicts, strict=True):
            if verdict.name == "confidence":
                continue
            eus[verdict.name] = {
                "before": _rounded(verdict.before),
                "after": _rounded(verdict.after),
                "repetitions": verdict.repetitions,
                "improved": verdict.improved,
                "source": source,
            }
    judged = [eu for name, eu in eus.items() if eu["before"] is not None and not name.startswith("gaze")]
    return {
        "format": REPORT_FORMAT,
        "version": REPORT_VERSION,
        "summary": {
            "eus_judged": len(judged),
            "eus_better": sum(eu["source"] not in (OLD, RESTED) for eu in judged),
            "mean_before": _rounded(float(np.mean([eu["before"] for eu in judged]))) if judged else None,
            "mean_after": _rounded(float(np.mean([eu["after"] for eu in judged]))) if judged else None,
        },
        "eus": eus,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
