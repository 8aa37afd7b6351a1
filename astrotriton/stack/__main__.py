"""``python -m astrotriton.stack DATA REPOSITORY``: own a stack that serves, until SIGTERM."""

import sys
from pathlib import Path

from astrotriton.stack.supervise import own

if __name__ == "__main__":
    sys.exit(own(Path(sys.argv[1]), Path(sys.argv[2])))
