"""The errors of the training room; each message says what was expected, what was found and the remedy.

TrainingError
├── DataError         shards that are absent, damaged, of another format, or leave no unseen wearer
├── CheckpointError   a run folder that cannot be resumed or exported
├── EvaluationError   figures that cannot be computed from what was given
└── ExportError       a network whose exported form does not agree with it; nothing was written
"""


class TrainingError(ValueError):
    """Something that training, evaluating or exporting cannot go on with."""


class DataError(TrainingError):
    """Shards that are absent, damaged, of another format, or leave no unseen wearer."""


class CheckpointError(TrainingError):
    """A run folder that cannot be resumed or exported."""


class EvaluationError(TrainingError):
    """Figures that cannot be computed from what was given."""


class ExportError(TrainingError):
    """A network whose exported form does not agree with it; nothing was written."""
