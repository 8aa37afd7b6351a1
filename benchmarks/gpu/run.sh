#!/usr/bin/env bash
# Unpack what was carried here, measure, and print a table. `run.sh --help` has the choices.
# PYTHON is the interpreter that has PyTorch; by default the first python3 on PATH.
set -eu
cd "$(dirname "$0")/../.."
export PYTHONUNBUFFERED=1
exec "${PYTHON:-python3}" -m benchmarks.gpu.machine "$@"
