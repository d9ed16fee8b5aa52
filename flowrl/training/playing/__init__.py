"""How experts play games: a run's programs, rollouts, tests, success rates."""
