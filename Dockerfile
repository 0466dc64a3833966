# The image that every task of the pipelines runs in, on Vertex AI, on Kubeflow and on Dataflow's workers.
#
#   docker build -t REGION-docker.pkg.dev/PROJECT/REPOSITORY/adaptation:TAG .
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
USER adaptation
WORKDIR /home/adaptation
