"""The one exception a user's mistake raises."""


class InputError(ValueError):
    """What the user gave cannot be used; the message is one plain sentence saying what was wrong and what to do."""
