"""Compiled programs, stored on disk for later runs of the same kind."""
