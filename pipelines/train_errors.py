"""What a user can do wrong when training; each message says what, where and what to do."""

from pipelines.errors import UserInputError


class TrainInputError(UserInputError):
    """Features, labels, splits or a checkpoint cannot be used as they are (exit status 2)."""
