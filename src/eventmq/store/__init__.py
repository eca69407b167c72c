"""Remembers jobs: the contract (`base`), one SQLite database (`sqlite`) in a file or in memory (`place`)."""
