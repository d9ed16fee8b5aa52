"""The built-in curricula: one module a game, each with a list ``SKILLS`` of recipes, in the order to learn them.

To change what a demo trains, reorder the lines; a skill is proposed once its needs are in the library or in training.
"""
