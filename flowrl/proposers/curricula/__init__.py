"""The built-in curricula: one module a game, each with a list ``SKILLS`` in the order in which to learn them."""
