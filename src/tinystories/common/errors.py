"""The exception for mistakes outside the program, and how its messages quote what was found."""


class UserError(Exception):
    """A mistake outside the program: in a parameter, a file, the network.

    The message is one line: the key or file, what was found, what would be right. `stage.run_stage` prints it
    without a traceback and exits with status 1.
    """


def shorten(text: str, length: int = 60) -> str:
    """Cut a text to a readable length, and make it one line."""
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3] + "..."
