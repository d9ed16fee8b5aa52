"""How experts learn: PPO, losses, returns, networks, optimiser. Knows neither a run nor how games are played."""
