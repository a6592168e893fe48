"""Headset software in Python talks to the service with this: frame sets out, replies in, reconnecting by itself."""

from service.client.asynchronous import AsyncClient
from service.client.http import post_expressions
from service.client.images import encode_frame_set
from service.client.session import Counts
from service.client.synchronous import Client
from service.wire_messages import CalibrationTold, GivenConsent

__all__ = ["AsyncClient", "CalibrationTold", "Client", "Counts", "GivenConsent", "encode_frame_set", "post_expressions"]
