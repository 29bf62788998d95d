"""The evaluation of a folder of generated clips against a folder of real ones."""
