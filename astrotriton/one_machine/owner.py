"""``python -m astrotriton.one_machine.owner DATA``: owns a stack that serves until told to stop."""

import sys
from pathlib import Path

from astrotriton.one_machine.bringup import bring_up, repository_of
from astrotriton.stack import own

if __name__ == "__main__":
    data = Path(sys.argv[1])
    sys.exit(own(data, repository_of(data), bring_up))
