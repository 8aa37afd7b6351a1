#!/bin/sh
# The Triton from pip, which is told where its backends are; NVIDIA's knows.
set -eu
server=$(echo /venv/lib/python3.*/site-packages/pytriton/tritonserver/bin/tritonserver)
exec "$server" --backend-directory=/venv/backends "$@"
