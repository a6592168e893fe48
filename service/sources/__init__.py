"""Where the frame sets of `mien stream` come from: takes, real clips, folders of images, video files, cameras."""

from service.sources.agreement import Agreement
from service.sources.opening import open_source
from service.sources.source import Reference, Shot, Source, SourceError, replay

__all__ = ["Agreement", "Reference", "Shot", "Source", "SourceError", "open_source", "replay"]
