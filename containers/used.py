"""Import what the gateway imports, so that its bytecode is in the image and no other."""

import importlib
import os
import sys
from pathlib import Path

MODULES = """
alembic.command astropy.coordinates astropy.io.fits astropy.io.votable astropy.stats astropy.table
astropy.time astropy.wcs astropy.wcs.utils astropy_healpix asyncpg cloudevents.conversion
cloudevents.pydantic click ddsketch ddsketch.pb.proto grpc grpc.aio grpc_health.v1.health
grpc_reflection.v1alpha.reflection httpx jinja2 jwt litestar litestar.contrib.jinja
litestar.openapi.plugins litestar.static_files msgspec multipart nats nats.js numba
numba.experimental numpy obstore opentelemetry.sdk.trace
opentelemetry.exporter.otlp.proto.grpc.trace_exporter opentelemetry.instrumentation.asgi orjson
PIL.Image prometheus_client pydantic_settings pythonjsonlogger.orjson regions rich.progress
scipy.interpolate scipy.ndimage scipy.optimize scipy.spatial scipy.special scipy.stats sep
sqlalchemy.dialects.postgresql.asyncpg sqlalchemy.ext.asyncio threadpoolctl tritonclient.grpc.aio
uuid_utils uvicorn uvloop yaml zoneinfo
"""

# As in a layer of an image, times have whole seconds, and the same ones in every build.
for folder, _, files in os.walk(sys.prefix):
    for name in files:
        os.utime(Path(folder, name), (1735689600, 1735689600), follow_symlinks=False)
for name in MODULES.split():
    importlib.import_module(name)
