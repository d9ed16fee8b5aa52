"""Where skills are practised: games as data (``registry``, ``facts_*``), and as JAX (everything else).

``import flowrl.envs.registry`` brings no jax; the adapters, which do, are imported when one is made.
"""
