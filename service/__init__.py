"""Frames in, expression-unit values out."""
