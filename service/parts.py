"""What one service process is made of; made once by `create_app`, found by every route."""

from dataclasses import dataclass

from model_export.contract import Bundle
from service.engine import Engine
from service.metrics import Metrics
from service.settings import Settings
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
    provider: str
    """What runs the backbones: the provider that is active, not the one that was asked for."""
    one_shots: int = 0
    """Single frame sets of HTTP that are under way."""
