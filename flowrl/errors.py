"""The errors that flowrl shows to the user.

Every message is one clear line: what was expected, what was found, which skill or file, and what to do
next. The front door prints the message and exits with the class's ``exit_code``; any other exception that
escapes is a bug in flowrl and shows its traceback.
"""

ALL_COMPLETED = 0
"""The exit code of a command that did everything it was asked to."""
SOMETHING_FAILED = 1
"""The exit code of the front door if a skill failed, was cancelled or blocked, or the proposer gave up."""
INTERRUPTED = 130
"""The exit code after Ctrl-C."""


class FlowrlError(Exception):
    """Something that the user must know about. Base of all our errors."""

    exit_code = 1


class BadInput(FlowrlError):
    """A flag, a skill, a file or a folder is invalid. Nothing on disk was changed."""

    exit_code = 2


class FolderInUse(FlowrlError):
    """Another live process is working on the same experiment or run."""

    exit_code = 3


class NoRoom(FlowrlError):
    """A disk is full or read-only. Files that were complete are unchanged; the same command resumes later."""
