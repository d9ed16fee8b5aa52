"""A whole library plays: its skills one by one, and whole episodes in which a planner chooses among them."""
