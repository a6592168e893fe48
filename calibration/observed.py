"""What is measured in takes, once for each: movement when a take is judged, features once it is accepted; the fit finds both.

Measuring is what a calibration costs: 4,000 frame sets take ten seconds, targets and heads from them one. In the pauses between
cues there is time for it, after the last cue there is none.
"""

from collections.abc import Mapping, Sequence

from calibration.features import TakeFeatures, features_of
from calibration.realign import moved_back, placed
from calibration.seen import SeenTake, Sight, neutrals_of, see_take
from model_export.contract import Bundle, Camera, Slip, Take

_Key = tuple[str, int, int, int]


class Observed:
    """Movement and features of takes through one bundle, kept for as long as they are asked for together. Final; one thread."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._seen: dict[tuple[tuple[_Key, ...], _Key], SeenTake] = {}
        self._slips: dict[_Key, Mapping[Camera, Slip]] = {}
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

    def features(self, take: Take, rest: Take | None) -> TakeFeatures:
        """The same as calibration.features.features_of, the face placed by that rest."""
        key = (_key(take), None if rest is None else _key(rest))
        if key not in self._features:
            self._features[key] = features_of(moved_back(take, self.placed(rest)), self._bundle)
        return self._features[key]

    def keep(self, takes: Sequence[Take]) -> None:
        """Forgets all other takes: recordings that were done again."""
        kept = {_key(take) for take in takes}
        self._seen = {key: seen for key, seen in self._seen.items() if key[1] in kept}
        self._slips = {key: slips for key, slips in self._slips.items() if key in kept}
        self._features = {key: features for key, features in self._features.items() if key[0] in kept}


def _key(take: Take) -> _Key:
    """Recordings of one wearer begin at different times."""
    return (take.cue, int(take.t_ns[0]), int(take.t_ns[-1]), len(take)) if len(take) else (take.cue, 0, 0, 0)
