"""How a run is drawn: on its own terminal, and in the session of its job on a cluster."""
