"""The embedded default: one SQLite file, one writer thread, group commit."""
