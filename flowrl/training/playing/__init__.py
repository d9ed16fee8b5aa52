"""Games played by the experts: a run's programs, rollouts, tests, success rates."""
