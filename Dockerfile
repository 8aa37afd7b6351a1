# Two images from one wheel. From the root of the repository:
#
#     docker build --target gateway -t REGISTRY/astrotriton-gateway:0.1.0 .
#     docker build --target export  -t REGISTRY/astrotriton-export:0.1.0 .
#
# docs/deploying.md says how to pin the base by its digest.
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS wheel
COPY requirements/build.lock /
RUN python -m pip install --no-cache-dir --no-deps --require-hashes -r /build.lock
COPY . /source
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels /source

FROM ${PYTHON} AS gateway-environment
COPY requirements/gateway.lock /
RUN python -m venv /venv \
 && /venv/bin/python -m pip install --no-cache-dir --no-deps --require-hashes \
      --only-binary=:all: -r /gateway.lock
COPY --from=wheel /wheels /wheels
RUN /venv/bin/python -m pip install --no-cache-dir --no-deps --no-index /wheels/*.whl

# No dependencies are resolved: the lock has them all, and overrules pytriton's wish for an old numpy.
FROM ${PYTHON} AS export-environment
COPY requirements/export.lock /
RUN python -m venv /venv \
 && /venv/bin/python -m pip install --no-cache-dir --no-deps --require-hashes \
      --only-binary=:all: -r /export.lock
COPY --from=wheel /wheels /wheels
RUN /venv/bin/python -m pip install --no-cache-dir --no-deps --no-index /wheels/*.whl

FROM ${PYTHON} AS base
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=3 \
    ORT_DISABLE_TELEMETRY=1 \
    ASTROTRITON_DATA=/tmp/data \
    HOME=/tmp
WORKDIR /tmp
# A number, so that Kubernetes can see that it isn't root.
USER 10001:10001

# The service, and the commands for keys, scores and checks. No TensorFlow.
FROM base AS gateway
LABEL org.opencontainers.image.title="astrotriton gateway"
COPY --from=gateway-environment /venv /venv
EXPOSE 8000 9000
ENTRYPOINT ["python", "-m", "astrotriton.gateway"]
CMD ["serve"]

# Export and promotion: TensorFlow, MLflow, and the Triton from pip for the sandbox.
FROM base AS export
LABEL org.opencontainers.image.title="astrotriton export"
COPY --from=export-environment /venv /venv
ENTRYPOINT ["python", "-m", "astrotriton"]
