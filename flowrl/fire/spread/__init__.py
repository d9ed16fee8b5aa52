"""How fires run through a landscape: a stochastic cellular automaton."""
