"""What a skill is: its spec, the checks on its code, what depends on what, plans, and the generated module.

This room imports nothing of the others but ``errors``; it knows neither a game nor jax. A game comes in as
:class:`flowrl.skills.facts.GameFacts`, which is data.
"""
