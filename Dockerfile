# The images, from one wheel. From the root of the repository:
#
#     docker build --target gateway    -t REGISTRY/astrotriton-gateway:0.1.0 .
#     docker build --target worker     -t REGISTRY/astrotriton-worker:0.1.0 .
#     docker build --target export     -t REGISTRY/astrotriton-export:0.1.0 .
#     docker build --target triton-cpu -t REGISTRY/astrotriton-triton-cpu:0.1.0 .
#
# The worker is the gateway and what reports need; the export is the worker and what conversion
# needs: who pulls all three pulls each layer once. docs/deploying.md says how to pin the base.
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS builder
# strip, and the library of Python that Triton's backend runs in: Debian's Python comes without it.
# hadolint ignore=DL3008
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends binutils libpython3.11 \
 && rm -rf /var/lib/apt/lists/* \
 && mkdir /libpython \
 && find /usr/local/lib /usr/lib -name libpython3.11.so.1.0 -exec cp -n {} /libpython \;
COPY bootstrap.lock requirements/build.lock /
RUN python -m venv /build \
 && /build/bin/python -m pip install --no-cache-dir --no-deps --require-hashes -r /bootstrap.lock \
 && /build/bin/uv pip install --no-cache --python /build/bin/python --no-deps --require-hashes \
      -r /build.lock
ENV PATH=/build/bin:$PATH UV_LINK_MODE=copy

FROM builder AS wheel
COPY pyproject.toml README.md LICENSE /source/
COPY astrotriton /source/astrotriton
COPY export /source/export
COPY gateway /source/gateway
COPY triton-config /source/triton-config
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels /source

# No dependencies are resolved here or below: the locks have them all.
FROM builder AS gateway-environment
COPY requirements/gateway.lock containers/slim.sh containers/used.py /
RUN --mount=type=cache,id=uv,target=/root/.cache/uv \
    python3 -m venv --without-pip /venv \
 && uv pip install --python /venv/bin/python --no-deps --require-hashes --only-binary :all: \
      -r /gateway.lock \
 && sh /slim.sh /venv \
 && /venv/bin/python /used.py

# The wheel, and what Numba makes of it, have a layer of their own: that one changes with the sources.
FROM gateway-environment AS gateway-code
COPY containers/compile.sh /
COPY --from=wheel /wheels /wheels
RUN uv pip install --no-cache --python /venv/bin/python --no-deps --no-index \
      --target /opt/astrotriton /wheels/*.whl \
 && sh /compile.sh

FROM ${PYTHON} AS base
ENV PATH=/opt/astrotriton/bin:/venv/bin:$PATH \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    HOME=/tmp
WORKDIR /tmp
# A number, so that Kubernetes can see that it isn't root.
USER 10001:10001

# The service, and the commands for keys, scores and checks.
FROM base AS gateway
LABEL org.opencontainers.image.title="astrotriton gateway"
COPY --from=gateway-environment /venv /venv
COPY --from=gateway-code /opt/astrotriton /opt/astrotriton
COPY containers/gateway.sh /usr/local/bin/astrotriton-gateway
EXPOSE 8000 9000
ENTRYPOINT ["astrotriton-gateway"]
CMD ["serve"]

# Reports on drift, and what is logged to MLflow.
FROM gateway AS worker
LABEL org.opencontainers.image.title="astrotriton worker"
USER 0:0
RUN --mount=type=bind,from=builder,source=/build/bin,target=/build \
    --mount=type=bind,source=requirements/worker.lock,target=/worker.lock \
    --mount=type=cache,id=uv,target=/root/.cache/uv \
    HOME=/root UV_LINK_MODE=copy /build/uv pip install --python /venv/bin/python --no-deps \
      --require-hashes --only-binary :all: -r /worker.lock
USER 10001:10001
CMD ["work"]

# Export and promotion: TensorFlow, MLflow, and the Triton from pip for the sandbox.
FROM worker AS export
LABEL org.opencontainers.image.title="astrotriton export"
USER 0:0
RUN --mount=type=bind,from=builder,source=/build/bin,target=/build \
    --mount=type=bind,from=builder,source=/libpython,target=/libpython \
    --mount=type=bind,source=requirements/export.lock,target=/export.lock \
    --mount=type=cache,id=uv,target=/root/.cache/uv \
    cp /libpython/* /venv/lib/ && HOME=/root UV_LINK_MODE=copy /build/uv pip install --python /venv/bin/python --no-deps \
      --require-hashes --only-binary :all: -r /export.lock
ENV LD_LIBRARY_PATH=/venv/lib TF_CPP_MIN_LOG_LEVEL=3 ASTROTRITON_DATA=/tmp/data
USER 10001:10001
ENTRYPOINT ["python", "-m", "astrotriton"]
CMD ["--help"]

# The Triton from pip and this project's backend: what a laptop or a cluster of CPUs needs.
FROM builder AS triton-environment
COPY requirements/triton-cpu.lock /
RUN --mount=type=cache,id=uv,target=/root/.cache/uv \
    python3 -m venv --without-pip /venv \
 && uv pip install --python /venv/bin/python --no-deps --require-hashes --only-binary :all: \
      --compile-bytecode -r /triton-cpu.lock
COPY containers/triton_layout.py /
COPY triton-config /triton-config
RUN /venv/bin/python /triton_layout.py /triton-config /venv/backends && cp /libpython/* /venv/lib/

FROM base AS triton-cpu
LABEL org.opencontainers.image.title="astrotriton Triton for CPUs"
COPY --from=triton-environment /venv /venv
ENV LD_LIBRARY_PATH=/venv/lib
COPY containers/tritonserver.sh /opt/astrotriton/bin/tritonserver
EXPOSE 8000 8001 8002
CMD ["tritonserver", "--help"]
