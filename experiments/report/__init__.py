"""Tables, plots and one page from the records of many runs."""
