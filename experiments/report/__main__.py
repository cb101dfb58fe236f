"""`python -m experiments.report RUNS...`."""

import sys

from experiments.report.command_line import main

if __name__ == "__main__":
    sys.exit(main())
