"""``python -m benchmarks.speed.owner DATA NETWORK``: owns a stack that serves a network."""

import sys
from functools import partial
from pathlib import Path

from astrotriton.one_machine.bringup import repository_of
from astrotriton.stack import own
from benchmarks.speed.networks import NETWORKS, bring_up

if __name__ == "__main__":
    data = Path(sys.argv[1])
    served = partial(bring_up, network=NETWORKS[sys.argv[2]])
    sys.exit(own(data, repository_of(data), served))
