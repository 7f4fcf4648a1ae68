"""Builds snapshots from pair files."""
