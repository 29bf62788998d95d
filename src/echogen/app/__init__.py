"""Pages that run on one's own machine: the logic of each, its server, and its static files."""
