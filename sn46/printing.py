"""What strangers wrote, on a terminal."""


def printable(text: str) -> str:
    """The same with nothing in it that a terminal would obey, or that cannot be printed: control
    characters, and halves of signs, are shown as they are written in code.

    >>> printable("a home\\x1b[2J")
    'a home\\\\x1b[2J'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
