"""The one exception a user's mistake raises."""


class InputError(ValueError):
    """A mistake of the user; the message is one plain sentence that says what was wrong and what to do."""
