"""Stand-ins for what surrounds the scheduler."""
