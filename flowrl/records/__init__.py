"""What processes tell each other by files: each format has its one type, version and place here, and both sides use it.

The scheduler, a training and its keeper share nothing but the run's folder. No jax in this room.
"""
