"""Whole runs, from files to files: what the commands do."""
