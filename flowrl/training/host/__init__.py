"""The process that trains and the machine it is on: signals, lock, memory, cache, terminal."""
