"""What a user can get wrong in measuring an evaluator."""

from pipelines.errors import UserInputError


class BenchmarkInputError(UserInputError):
    """The corpus of variants, the evaluator or its scores cannot be used: what to do."""
