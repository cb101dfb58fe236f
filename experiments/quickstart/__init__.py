"""The quickstart: robust fine-tuning of a small network on handwritten digits."""
