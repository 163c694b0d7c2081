"""What a user can get wrong in scoring."""


class ScoreInputError(ValueError):
    """Corpus, checkpoint, features, baseline, gate or scores cannot be used: why, and what to do."""
