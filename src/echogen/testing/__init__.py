"""Tiny generators, rendered clips, and files of every format, for the tests and benchmarks of echogen and of its plugins.

Nothing here is needed to generate or to measure, and no other part of the package imports from here. What only tests install
(pytest, hypothesis) is never imported.
"""
