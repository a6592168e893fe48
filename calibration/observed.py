"""What is measured in takes, once for each: movement when a take is judged, features once it is accepted; the fit finds both.

Measuring is what a calibration costs: 4,000 frame sets take ten seconds, targets and heads from them one. In the pauses between
cues there is time for it, after the last cue there is none.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from calibration.features import TakeFeatures, features_of
from calibration.realign import moved_back, placed
from calibration.rested import neutral_of, rest_features
from calibration.seen import SeenTake, Sight, neutrals_of, see_take
from model_export.contract import Bundle, Camera, Slip, Take

_Key = tuple[str, int, int, int]


class Observed:
    """Movement and features of takes through one bundle, kept for as long as they are asked for together. Final; one thread."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._seen: dict[tuple[tuple[_Key, ...], _Key], SeenTake] = {}
        self._slips: dict[_Key, Mapping[Camera, Slip]] = {}
        self._rests: dict[_Key, Mapping[Camera, NDArray[np.float32]]] = {}
        self._features: dict[tuple[_Key, _Key | None], TakeFeatures] = {}

    def sight(self, takes: Sequence[Take]) -> Sight:
        """The same as calibration.seen.see."""
        rests = tuple(_key(take) for take in takes if take.cue == "rest")
        neutral_of = rests or tuple(_key(take) for take in takes)
        neutral, unusable = neutrals_of(takes)
        for take in takes:
            if (neutral_of, _key(take)) not in self._seen:
                self._seen[neutral_of, _key(take)] = see_take(take, neutral)
        return Sight(tuple(self._seen[neutral_of, _key(take)] for take in takes), unusable)

    def placed(self, rest: Take | None) -> Mapping[Camera, Slip]:
        """The same as calibration.realign.placed; nothing without a rest."""
        if rest is None:
            return {}
        key = _key(rest)
        if key not in self._slips:
            self._slips[key] = placed(rest, self._bundle)
        return self._slips[key]

    def rest(self, rest: Take | None) -> Mapping[Camera, NDArray[np.float32]]:
        """Features [1280] of the face at rest, placed by itself and compared with nothing; nothing without a rest."""
        if rest is None:
            return {}
        key = _key(rest)
        if key not in self._rests:
            self._rests[key] = rest_features([features_of(moved_back(rest, self.placed(rest)), self._bundle)])
        return self._rests[key]

    def features(self, take: Take, rest: Take | None) -> TakeFeatures:
        """The same as calibration.features.features_of, the face placed by that rest and compared with it."""
        key = (_key(take), None if rest is None else _key(rest))
        if key not in self._features:
            placed_take, neutral = moved_back(take, self.placed(rest)), neutral_of(self.rest(rest))
            self._features[key] = features_of(placed_take, self._bundle, neutral)
        return self._features[key]

    def keep(self, takes: Sequence[Take]) -> None:
        """Forgets all other takes: recordings that were done again."""
        kept = {_key(take) for take in takes}
        self._seen = {key: seen for key, seen in self._seen.items() if key[1] in kept}
        self._slips = {key: slips for key, slips in self._slips.items() if key in kept}
        self._rests = {key: rest for key, rest in self._rests.items() if key in kept}
        self._features = {key: features for key, features in self._features.items() if key[0] in kept}


def _key(take: Take) -> _Key:
    """Recordings of one wearer begin at different times."""
    return (take.cue, int(take.t_ns[0]), int(take.t_ns[-1]), len(take)) if len(take) else (take.cue, 0, 0, 0)
