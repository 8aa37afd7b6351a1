#!/bin/sh
# Compile the sources and their Numba functions, the latter for every x86-64 processor since 2013:
# a gateway would otherwise compile for half a minute at each start.
set -eu
cd /opt/astrotriton
rm -rf .lock
find . -exec touch -h -d @1735689600 {} +
/venv/bin/python -m compileall -q astrotriton
if [ "$(uname -m)" = x86_64 ]; then
  mkdir compiled
  NUMBA_CACHE_DIR=/opt/astrotriton/compiled NUMBA_CPU_NAME=x86-64-v3 NUMBA_CPU_FEATURES='' \
    PYTHONDONTWRITEBYTECODE=1 /venv/bin/python -c 'from astrotriton.detection.warmup import warm_up; warm_up()'
fi
