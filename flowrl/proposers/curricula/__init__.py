"""The built-in curricula: one module a game, each with a list ``SKILLS`` of recipes, in the order to learn them.

To change what a demo trains, reorder the lines; a skill is proposed once its needs are in the library or in training.
"""

WITHOUT_FEAR = ("avoid_damage",)
"""For gains that are rare at first. With a penalty for each wound, an expert learns to stay away from what wounds before it has
learned what it gains there: Eat_Cow of Craftax-Classic succeeded in 0.00 after 2M frames with it, in 0.76 after 1M without."""

RARE_STEPS = 200
"""What is rare takes long to find, also where ``--max_task_steps`` is small for the rest."""
