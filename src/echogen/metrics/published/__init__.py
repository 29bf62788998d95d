"""The evaluation protocols and figures of published papers."""
