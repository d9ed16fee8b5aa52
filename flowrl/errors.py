"""The errors that flowrl shows to a person.

Every message is one clear line: what was expected, what was found, which skill or file, and what to do
next. The front door prints the message and leaves with the class's ``exit_code``; anything else that
escapes is a defect of ours and shows its traceback.
"""

ALL_COMPLETED = 0
"""The exit code of a command that did all that was asked of it."""
SOMETHING_FAILED = 1
"""The exit code of the front door where a skill failed, was cancelled or blocked, or the proposer gave up."""
INTERRUPTED = 130
"""The exit code after Ctrl-C."""


class FlowrlError(Exception):
    """Something that a person has to know about. Base of all our errors."""

    exit_code = 1


class BadInput(FlowrlError):
    """A flag, a skill, a file or a folder is not what it has to be. Nothing on disk was changed."""

    exit_code = 2


class FolderInUse(FlowrlError):
    """Another live process works on the same experiment or run."""

    exit_code = 3


class NoRoom(FlowrlError):
    """A disk is full or read-only. What was complete before is there as it was; the same command goes on later."""
