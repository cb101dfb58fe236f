"""One file per experiment; each opens with its command line and its numbers."""
