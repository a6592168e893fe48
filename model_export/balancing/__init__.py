"""Losses of the tasks in, the one loss to follow out."""

from model_export.balancing.balancer import BALANCER_NAMES, Balancer, balancer_by_name
from model_export.balancing.equal import EqualBalancer
from model_export.balancing.famo import FamoBalancer
from model_export.balancing.log import LogBalancer
from model_export.balancing.uncertainty import UncertaintyBalancer

__all__ = [
    "BALANCER_NAMES",
    "Balancer",
    "EqualBalancer",
    "FamoBalancer",
    "LogBalancer",
    "UncertaintyBalancer",
    "balancer_by_name",
]
