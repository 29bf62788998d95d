"""Metrics of the heart shown: ejection fraction, volumes, beats and their timing."""
