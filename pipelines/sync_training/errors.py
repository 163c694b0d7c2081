"""What a user can do wrong when training SyncNet; each message says what, where, what to do."""

from pipelines.train_errors import TrainInputError


class SyncInputError(TrainInputError):
    """The corpus, stored crops or first weights cannot be used as they are (exit status 2)."""
