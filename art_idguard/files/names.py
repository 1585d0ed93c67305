"""Names of files and other text of strangers, as a terminal and a spreadsheet may have them."""

from unicodedata import category

_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of control characters, signs that only format, surrogates (bytes that are no text), and ends of
lines and paragraphs."""


def printable(text: str) -> str:
    r"""The text with its unprintable characters escaped, so that it stays on its line and commands no terminal.

    >>> print(printable("a\x1b[2J\n\udcff.png"))
    a\x1b[2J\n\udcff.png
    """
    return "".join(c.encode("unicode_escape").decode() if category(c) in _HIDDEN else c for c in text)


def cell(value: object) -> object:
    """A value for a CSV file: text as `printable` has it, and behind an apostrophe what a spreadsheet would compute.

    >>> cell("=1+1"), cell(-1), cell(None)
    ("'=1+1", -1, None)
    """
    if not isinstance(value, str):
        return value
    return ("'" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else "") + printable(value)
