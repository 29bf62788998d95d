"""Generators around another generator: the best of several draws, private draws, finer video."""
