"""The service of `echogen serve`: a page on which a generated echo beats beside its ECG, and an HTTP API."""
