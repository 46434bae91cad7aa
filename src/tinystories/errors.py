"""The one exception whose message is meant for the person at the keyboard."""


class UserError(Exception):
    """Something outside the program is wrong: a parameter, a file, the network.

    The message is one line: the key or file, what was found, what would be right. `stage.run_stage` prints it
    without a traceback and exits with status 1.
    """
