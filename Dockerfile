# The image that every task of the pipelines runs in, on Vertex AI, on Kubeflow and on Dataflow's workers.
#
#   docker build -t REGION-docker.pkg.dev/PROJECT/REPOSITORY/adaptation:TAG .
# Dataflow's workers begin with Beam's boot program; its version is requirements.lock's.
FROM apache/beam_python3.11_sdk:2.77.0 AS beam

FROM python:3.11-slim-bookworm

# `python` of this environment comes first for every command that a spec names.
ENV VIRTUAL_ENV=/opt/adaptation \
    PATH=/opt/adaptation/bin:$PATH \
    PYTHONUNBUFFERED=1
RUN python -m venv "$VIRTUAL_ENV"

# The dependencies, exactly as locked and compiled to bytecode; a layer that changes only with the lock.
COPY requirements.lock /build/
RUN pip install --no-cache-dir --no-deps --require-hashes --compile -r /build/requirements.lock

# The project, installed under the names in the specs, not linked.
COPY pyproject.toml README.md LICENSE /build/
COPY adaptation /build/adaptation
COPY components /build/components
COPY models /build/models
COPY pipeline /build/pipeline
RUN pip install --no-cache-dir --no-deps --no-build-isolation --compile /build && rm -rf /build

RUN useradd --create-home --uid 1000 adaptation
COPY --from=beam /opt/apache/beam /opt/apache/beam

# Dataflow's boot program would make an environment of its own, without these packages.
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
USER adaptation
WORKDIR /home/adaptation

# A task's spec has a command, which goes before this.
ENTRYPOINT ["/opt/apache/beam/boot"]
