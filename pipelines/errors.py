"""The family of everything that a user can get wrong."""


class UserInputError(ValueError):
    """What a user asked for cannot be done: why, and what to do. Exit status 2 at every door."""
