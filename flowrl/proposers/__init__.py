"""Who proposes skills: the built-in curriculum, and later a language model. Knows ``skills`` and nothing else."""
