"""The one exception that a user can cause."""


class UserError(Exception):
    """A mistake in the input, the configuration or the machine's set-up.

    The message is a single line that says what is wrong, where, and what to do. The command line and the workflow
    scripts print it as it is, without a traceback, and exit with status 1.
    """
