"""From what a person names on the command line to a source."""

from pathlib import Path

from model_export.contract.frames import Camera
from service.sources.source import Source, SourceError


def open_source(what: str, jpeg_quality: int | None = None, camera: Camera | None = None) -> Source:
    """The source named by a .take, an .npz clip, a folder of images, a video file, or the number of a camera.

    `jpeg_quality`: 1 to 100, None for raw images. `camera`: whose pictures a video or camera shows; None when it shows three
    side by side. Raises SourceError.
    """
    # OpenCV is imported with the first source: `mien stream --help` must not wait for it.
    from service.sources.recordings import open_clip, open_folder, open_take
    from service.sources.videos import open_camera, open_video

    path = Path(what)
    if what.isascii() and what.isdecimal() and not path.exists():
        return open_camera(int(what), jpeg_quality, camera)
    if not path.exists():
        raise SourceError(
            "The source should be a .take, an .npz clip, a folder of images, a video, or a camera number.",
            f"nothing at {what}",
            "Check the path.",
            missing=True,
        )
    if path.is_dir():
        return open_folder(path, jpeg_quality)
    if path.suffix == ".take":
        return open_take(path, jpeg_quality)
    if path.suffix == ".npz":
        return open_clip(path, jpeg_quality)
    return open_video(path, jpeg_quality, camera)
