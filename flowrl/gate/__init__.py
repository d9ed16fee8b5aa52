"""What a language model's code has to pass before it is trained: the client, the probe in its sandbox, rules, recorded states.

The scheduler's side (``client``, ``sandbox``, ``kernel_filters``) imports no jax; the probe's process does.
"""
