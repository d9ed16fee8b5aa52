"""Where skills are practised: games as data (``registry``, ``facts_*``), and as JAX code (everything else).

``import flowrl.envs.registry`` does not import jax; the adapters do, and are imported when one is made.
"""
