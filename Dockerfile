# The image of the workers and the scheduler in docker-compose.yml: Streamatiq, and the handlers of
# examples/trading. For handlers of yours, copy them to /app instead.
#
# The base is pinned by its exact version. Its digest would pin every byte, but only a registry
# tells it: after the first pull, `docker image inspect --format '{{.RepoDigests}}' TAG` does. Put it
# behind the tag, as in TAG@sha256:...
FROM python:3.12.13-slim-bookworm AS base


FROM base AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_INPUT=1
# Filled by the base's own pip, so that there is none in it.
RUN python -m venv --without-pip /opt/streamatiq
# By itself, so that an edit of the sources does not install all of it again.
COPY requirements-image.txt /build/
RUN pip --python /opt/streamatiq/bin/python install --only-binary :all: --require-hashes \
        --requirement /build/requirements-image.txt
# What .dockerignore lets through.
COPY . /build/
RUN pip --python /opt/streamatiq/bin/python wheel --no-deps --no-build-isolation \
        --wheel-dir /build/dist /build \
    && pip --python /opt/streamatiq/bin/python install --no-deps --no-index /build/dist/*.whl \
    && pip --python /opt/streamatiq/bin/python uninstall --yes setuptools


FROM base
# PYTHONPATH: the scheduler too loads the modules of workers.handlers.
ENV PATH=/opt/streamatiq/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    TRADING_DATA=/var/lib/trading
# A number, so that Kubernetes can tell that it is not root. A new volume on the folder gets its owner.
RUN pip uninstall --yes --root-user-action ignore pip \
    && groupadd --gid 10001 streamatiq \
    && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /app \
        --shell /usr/sbin/nologin streamatiq \
    && install --directory --owner 10001 --group 10001 /var/lib/trading
COPY --from=build /opt/streamatiq /opt/streamatiq
COPY examples/trading /app/trading
WORKDIR /app
USER 10001:10001
# As a list: without a shell in between, SIGTERM reaches the process.
CMD ["dramatiq", "streamatiq.workers"]
