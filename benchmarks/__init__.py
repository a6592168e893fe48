"""Measurements of the service and of the synthetic headset, each ending in one JSON line."""
