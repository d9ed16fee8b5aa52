"""What a skill is: its spec, the checks on its code, dependencies, plans, and the generated module.

Of the other rooms this one imports only ``errors``; it knows neither a game nor jax. A game is passed in as
:class:`flowrl.skills.facts.GameFacts`, which is data.
"""
