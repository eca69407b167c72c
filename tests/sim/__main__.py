"""`python -m sim`, see `runner`."""

import sys

from sim.runner import main

if __name__ == "__main__":
    sys.exit(main())
