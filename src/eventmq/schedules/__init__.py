"""Says when things are due: what a schedule is, its next times, what became of those that were missed. Pure."""
