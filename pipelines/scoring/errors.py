"""What a user can get wrong in scoring."""

from pipelines.errors import UserInputError


class ScoreInputError(UserInputError):
    """Corpus, checkpoint, features, baseline, gate or scores cannot be used: what to do."""
