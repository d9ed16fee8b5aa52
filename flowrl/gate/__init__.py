"""The checks that a language model's code must pass before it is trained.

``client`` starts and asks the ``probe``, which runs the code in a ``sandbox`` on ``recorded_states`` and judges it by the
``rules``. The scheduler's side (``client``, ``sandbox``, ``kernel_filters``) does not import jax; the probe's process does.
"""
