"""Search for generated clips that copy clips of the training set."""
