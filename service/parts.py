"""What one service process is made of; made once by `create_app`, found by every route."""

from dataclasses import dataclass

from model_export.contract import Bundle
from model_export.runtime import Runtime
from service.engine import Engine
from service.metrics import Metrics
from service.settings import Settings
from service.standalone import StandaloneExport
from service.stream import Streams
from service.wearers import Wearers


@dataclass(slots=True)
class Parts:
    """The parts that the routes share."""

    settings: Settings
    bundle: Bundle
    engine: Engine
    metrics: Metrics
    streams: Streams
    wearers: Wearers
    runtime: Runtime
    standalone: StandaloneExport
    one_shots: int = 0
    """Single frame sets of HTTP that are under way."""
