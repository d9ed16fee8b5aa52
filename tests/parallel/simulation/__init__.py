"""The scheduler in a world of its own: no processes, no files, no clock but a number; and everything that can go wrong."""
