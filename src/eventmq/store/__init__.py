"""Remembers jobs: the contract (`base`), in memory (`memory`), in one SQLite file (`sqlite`)."""
