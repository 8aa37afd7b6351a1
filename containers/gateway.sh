#!/bin/sh
# The gateway with the compiled functions of the image; Numba wants a folder that it may write to.
set -eu
compiled=/opt/astrotriton/compiled
if [ -d "$compiled" ] && [ -z "${NUMBA_CACHE_DIR:-}" ] && grep -qw avx2 /proc/cpuinfo; then
  NUMBA_CACHE_DIR=$(mktemp -d "${TMPDIR:-/tmp}/compiled.XXXXXX")
  cp -r "$compiled/." "$NUMBA_CACHE_DIR"
  export NUMBA_CACHE_DIR NUMBA_CPU_NAME=x86-64-v3 NUMBA_CPU_FEATURES=
fi
exec python -m astrotriton.gateway "$@"
