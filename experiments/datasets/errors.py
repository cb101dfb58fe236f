"""What goes wrong with data, said so that a person can put it right."""


class DataError(ValueError):
    """A data set that is missing, not prepared, laid out wrongly, or damaged."""
