"""Distances between sets of clips in the features of a network."""
