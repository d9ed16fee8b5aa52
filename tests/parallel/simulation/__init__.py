"""The scheduler in a simulated world: no processes, no files, a number for a clock; and everything that can go wrong."""
