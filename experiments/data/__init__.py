"""Data sets, and how their images become batches."""


class DataError(ValueError):
    """A data set that is missing, not prepared, laid out wrongly, or damaged."""

    def __init__(self, message: str):
        # One line that can be printed, whatever a library says or a file is called.
        line = message.replace("\n", " ")
        super().__init__(line.encode(errors="backslashreplace").decode())
