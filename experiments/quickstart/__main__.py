"""`python -m experiments.quickstart`."""

import sys

from experiments.quickstart.job import main

if __name__ == "__main__":
    sys.exit(main())
