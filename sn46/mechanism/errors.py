"""What can go wrong in the rules. Each message is written for the person who reads it."""


class MechanismError(Exception):
    """Base of every error that the rules raise."""


class EpochError(MechanismError):
    """An epoch id or an epoch length that the rules do not allow."""


class DrawError(MechanismError):
    """No draw within the tolerance exists for these inputs."""


class AssignmentError(MechanismError):
    """An assignment that is malformed, of another version, or not signed by the API."""


class SubmissionError(MechanismError):
    """A manifest or evidence document that cannot be read as one."""


class ExportError(MechanismError):
    """An export folder that lacks or garbles what a replay needs."""
