"""Known ways of placing fuel breaks, which an agent has to beat."""
