"""The blind test: a page on which readers tell real from generated clips."""
