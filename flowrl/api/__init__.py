"""What ``import flowrl`` offers to programs: a library as a policy, its skills as environments, their episodes as data."""
