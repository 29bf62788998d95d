"""A generator, a data set, a metric and an ECG reader for echogen, each in a file of a page."""
