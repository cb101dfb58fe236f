"""Speed and memory, measured and printed as ratios."""
