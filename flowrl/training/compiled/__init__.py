"""Compiled programs that are kept on disk, for every later run of the same kind."""
