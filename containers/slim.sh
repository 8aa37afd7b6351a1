#!/bin/sh
# Take out of an environment what no program needs at run time: tests, headers, the editors of
# swagger-ui-py, Numba's CUDA, AVIF pictures, and the symbols of shared libraries. `*.libs` were
# moved by patchelf, which strip does not always survive.
set -eu
cd "$1"/lib/python3.*/site-packages
find . -depth -type d \( -name tests -o -name test \) ! -path ./astropy/tests -exec rm -rf {} +
find . -type f \( -name '*.a' -o -name '*.c' -o -name '*.cpp' -o -name '*.h' -o -name '*.hpp' \
  -o -name '*.map' -o -name '*.pxd' -o -name '*.pyi' -o -name '*.pyx' \) -delete
rm -rf swagger_ui/static/swagger-editor* numba/cuda PIL/_avif* pillow.libs/libavif*
find . -type f -name '*.so' ! -path '*.libs/*' -exec strip --strip-unneeded {} +
# The project itself lies in a layer of its own.
echo /opt/astrotriton > astrotriton.pth
