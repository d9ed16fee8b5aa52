"""What people look at: lines while skills are trained, and the table at the end. Knows the state file and nothing else."""
