"""What the harness has measured, as tables, sentences, plots and one page."""
