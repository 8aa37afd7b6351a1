#!/bin/sh
# Take out of an environment what no program needs at run time: tests, headers, pages of
# swagger-ui-py that nobody is shown, Pygments' lexers of other languages than Python, Numba's CUDA,
# AVIF pictures, and the symbols of shared libraries. `*.libs` were moved by patchelf, which strip
# does not always survive.
set -eu
cd "$1"/lib/python3.*/site-packages
# The export compares answers on the field of M13 that lies beside astropy's tests.
m13=astropy/io/fits/hdu/compressed/tests
find . -depth -type d \( -name tests -o -name test \) ! -path ./astropy/tests ! -path "./$m13" \
  -exec rm -rf {} +
find "$m13" -type f ! -name __init__.py ! -name m13_rice.fits -delete
find . -type f \( -name '*.a' -o -name '*.c' -o -name '*.cpp' -o -name '*.h' -o -name '*.hpp' \
  -o -name '*.map' -o -name '*.pxd' -o -name '*.pyi' -o -name '*.pyx' \) -delete
rm -rf swagger_ui/static/swagger-editor* swagger_ui/static/swagger-ui-es-bundle* \
  swagger_ui/static/swagger-ui.js numba/cuda PIL/_avif* pillow.libs/libavif* \
  numpy/distutils sqlalchemy/testing
find pygments/lexers -name '*.py' ! -name '_mapping.py' ! -name '__init__.py' ! -name python.py -delete
find . -type f -name '*.so' ! -path '*.libs/*' -exec strip --strip-unneeded {} +
# The project itself lies in a layer of its own.
echo /opt/astrotriton > astrotriton.pth
