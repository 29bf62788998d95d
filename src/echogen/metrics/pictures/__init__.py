"""Metrics of single pictures and clips: likeness to a reference, speckle statistics."""
