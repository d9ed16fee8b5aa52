"""Rehearsal: the planner plays whole episodes with a library's experts, and those that act go on learning."""
