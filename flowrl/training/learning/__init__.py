"""How experts learn: PPO, losses, returns, networks, optimiser. Knows neither runs nor games."""
