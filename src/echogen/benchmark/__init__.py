"""Open benchmark of generators on simulated hearts that no training saw: frozen cases, rows, scores and tables."""
