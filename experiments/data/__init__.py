"""Data sets, and how their images become batches."""


class DataError(ValueError):
    """A data set that is missing, not prepared, laid out wrongly, or damaged."""
