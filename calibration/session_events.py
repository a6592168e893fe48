"""What happens to a calibration session, and what it wants done: the words between the session and the world around it.

Times are integer nanoseconds of one monotonic clock, whichever its driver reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How a session ended."""

    CANCELLED = "cancelled"
    """Whoever started it did not want it any more."""
    CLOSED = "closed"
    """After a report, nothing more was wanted."""
    LOST = "lost"
    """The headset stayed away."""
    NO_REST = "no_rest"
    """No recording of the resting face could be used; everything else is measured from it."""
    NOTHING_TO_LEARN = "nothing_to_learn"
    """Apart from rest, no recording was accepted."""
    FAILED = "failed"
    """The worker could not go on."""


# In


@dataclass(frozen=True, slots=True)
class Consented:
    """The consent of the wearer is on record."""

    t_ns: int


@dataclass(frozen=True, slots=True)
class Passed:
    """Time has passed, and nothing else happened."""

    t_ns: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """The wearer does not want to do the cue that is asked for now."""

    t_ns: int


@dataclass(frozen=True, slots=True)
class Redone:
    """The wearer wants to do a cue again, or at last."""

    t_ns: int
    cue: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The session shall end at once."""

    t_ns: int


@dataclass(frozen=True, slots=True)
class HeadsetLost:
    """No frames come any more."""

    t_ns: int


@dataclass(frozen=True, slots=True)
class HeadsetBack:
    """Frames come again."""

    t_ns: int


@dataclass(frozen=True, slots=True)
class Judged:
    """The worker says whether a recording can be used."""

    t_ns: int
    recording: int
    """Number of the recording, as in BeginRecording."""
    refusal: str | None
    """Why it cannot be used; None where it can."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """The worker has a head."""

    t_ns: int
    fit: int
    """Number of the fit, as in BeginFit."""
    better: bool
    """Whether held-out takes say that it is better than the one before, for any EU."""
    report: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Promoted:
    """The new head is stored and answers."""

    t_ns: int
    fit: int
    version: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A fit, or storing its head, went wrong; nothing has changed."""

    t_ns: int
    fit: int
    reason: str


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """The worker has died and another one has started; accepted recordings are gone but for those kept on disk."""

    t_ns: int
    kept: frozenset[str] = frozenset()
    """Cues whose accepted recordings the new worker has."""


Event = (
    Consented
    | Passed
    | Skipped
    | Redone
    | Cancelled
    | HeadsetLost
    | HeadsetBack
    | Judged
    | Fitted
    | Promoted
    | Failed
    | WorkerLost
)


# Out


@dataclass(frozen=True, slots=True)
class AskConsent:
    """Show the wearer what is agreed to."""


@dataclass(frozen=True, slots=True)
class Announce:
    """Show the cue and count down to its recording."""

    cue: str
    attempt: int
    """Counts from 1 for each cue; higher ones follow a refusal."""
    begins_ns: int
    ends_ns: int
    left: int
    """Cues that are to be done after this one."""


@dataclass(frozen=True, slots=True)
class BeginRecording:
    """Frame sets from now on belong to this recording."""

    recording: int
    """Counts the recordings of a session from 1."""
    cue: str


@dataclass(frozen=True, slots=True)
class EndRecording:
    """The recording is whole: judge it."""

    recording: int


@dataclass(frozen=True, slots=True)
class DiscardRecording:
    """The recording is broken: forget it, whether it runs or waits to be judged."""

    recording: int


@dataclass(frozen=True, slots=True)
class ForgetTakes:
    """The headset sits otherwise now: what was accepted cannot be used together with what comes."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Tell the wearer that the cue is done."""

    cue: str
    recording: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Tell the wearer why the cue is not done."""

    cue: str
    reason: str
    again: bool
    """Whether it is asked for again at once."""


@dataclass(frozen=True, slots=True)
class Declined:
    """Tell whoever wished it that something cannot be done now."""

    wish: str
    reason: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Tell that the session waits for frames."""


@dataclass(frozen=True, slots=True)
class BeginFit:
    """Fit a head to the accepted recordings, one for each cue."""

    fit: int
    """Counts the fits of a session from 1."""
    recordings: Mapping[str, int]
    """Cue -> number of its accepted recording."""


@dataclass(frozen=True, slots=True)
class Promote:
    """Store the head of this fit and let it answer."""

    fit: int


@dataclass(frozen=True, slots=True)
class Report:
    """Tell what the fit reached."""

    fit: int
    version: int | None
    """Of the new head, which answers now; None where the old one stays."""
    report: Mapping[str, Any]
    failure: str | None = None
    """Why there is no new head, where it is not for the report."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The session is over; nothing comes after this."""

    outcome: Outcome


Wish = (
    AskConsent
    | Announce
    | BeginRecording
    | EndRecording
    | DiscardRecording
    | ForgetTakes
    | Accepted
    | Refused
    | Declined
    | Pause
    | BeginFit
    | Promote
    | Report
    | Ended
)
