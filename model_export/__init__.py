"""Labelled images in, a checked bundle out."""
