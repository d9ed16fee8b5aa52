"""The built-in curricula: one module a game, each with a list ``SKILLS`` of recipes, in the order to learn them.

To change what a demo trains, move lines; a skill is proposed once what it needs is in the library or in training.
"""
