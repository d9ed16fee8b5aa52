"""Many runs at once: what is trained when, on which part of the machine, and how its experts reach the library."""
