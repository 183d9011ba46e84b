"""The one exception that a user is meant to read."""


class UserError(Exception):
    """What is wrong with the call or the configuration, in one sentence that says what to do: exit code 2."""
