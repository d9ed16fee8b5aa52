"""One run: PPO over a mixture of experts, started as ``python -m flowrl.training RUN_FOLDER``."""
