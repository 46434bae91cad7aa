"""The one exception whose message is meant for the person at the keyboard, and how it quotes what was found."""


class UserError(Exception):
    """Something outside the program is wrong: a parameter, a file, the network.

    The message is one line: the key or file, what was found, what would be right. `stage.run_stage` prints it
    without a traceback and exits with status 1.
    """


def shorten(text: str, length: int = 60) -> str:
    """Somebody's text, cut to a readable length, with nothing in it that would not print in one line."""
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3] + "..."
