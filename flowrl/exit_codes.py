"""Exit codes of the front door; those of errors (2: bad input, 3: folder in use) are in ``errors.py``."""

ALL_COMPLETED = 0
SOMETHING_FAILED = 1
"""Something failed, was cancelled or blocked, or the proposer gave up."""
INTERRUPTED = 130
