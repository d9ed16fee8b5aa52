"""The library of an experiment: what it holds, and who may change it."""
