"""x"""


def benchmark() -> None:
    """X."""
