"""The serving container's part: a process with TensorFlow that predicts with SavedModels, and its client.

Models are loaded as TensorFlow Serving loads them, into a session, and stay loaded. Request and response are a line of
JSON each, over the process's input and output; when its input ends, so does the process, so it cannot outlive its
parent. `emulators.vertex` decides which model an endpoint serves.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import IO, Any

from adaptation.errors import AdaptationError, described
from adaptation.evaluation.prediction_results import INVALID_ARGUMENT, ResultsWriter
from adaptation.io import storage

SIGNATURE = "serving_default"
BATCH_IMAGES = 256
NOT_FOUND = 5
_SECONDS_TO_END = 10
_LOG_LINES = 5
_REASON = re.compile(r"^(.+)\n\t \[\[", re.MULTILINE)


class ServingFailed(AdaptationError, RuntimeError):
    """A model that could not be loaded, or a serving process that has ended."""


class InvalidInstance(AdaptationError, ValueError):
    """An instance that is not an image for the model."""


class ModelServer:
    """A process that serves any number of models while its context lasts; the first request starts it.

    Args:
      log: The file for TensorFlow's own messages.
      environment: Environment variables that the process needs to find the models.
    """

    def __init__(self, log: Path, environment: Mapping[str, str]) -> None:
        self._log, self._environment = log, dict(environment)
        self._process: subprocess.Popen[str] | None = None
        self._closed = False
        self._sending, self._changing = threading.Lock(), threading.Lock()

    def predict(self, model: str, instances: Sequence[Any]) -> list[Any]:
        """Return a prediction of each instance: `{"b64": ...}`, or that under the name of the model's input.

        Args:
          model: URI of the SavedModel.
          instances: Encoded images.

        Raises:
          InvalidInstance: One of them is not an image.
          ServingFailed: The model cannot be loaded.
        """
        return list(self._send(model=model, instances=list(instances)))

    def predict_files(self, model: str, file_list: str, output: str) -> int:
        """Predict the images that a file list names.

        Args:
          model: URI of the SavedModel.
          file_list: URI of a text file, one image URI a line.
          output: URI of the folder that gets the result files, in Vertex AI's layout.

        Returns:
          How many images could be predicted.

        Raises:
          ServingFailed: The model cannot be loaded, or the list cannot be read.
        """
        return int(self._send(model=model, file_list=file_list, output=output))

    def close(self) -> None:
        """End the process for good; pending requests raise ServingFailed."""
        with self._changing:
            self._closed = True
            if self._process:
                self._process.kill()
                self._process.wait(_SECONDS_TO_END)

    def _send(self, **request: Any) -> Any:
        with self._sending:
            process = self._running()
            assert process.stdin and process.stdout
            try:
                print(json.dumps(request), file=process.stdin, flush=True)
                line = process.stdout.readline()
            except BrokenPipeError:
                line = ""
        if not line:
            raise ServingFailed(f"the serving process has ended. The end of its log, {self._log}:\n{self._log_end()}")
        response = json.loads(line)
        if "invalid" in response:
            raise InvalidInstance(response["invalid"])
        if "error" in response:
            raise ServingFailed(response["error"])
        return response["result"]

    def _running(self) -> subprocess.Popen[str]:
        with self._changing:
            if self._closed:
                raise ServingFailed("the serving process was ended. Start the rehearsal again.")
            self._process = self._process or self._start()
            return self._process

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-P", "-m", "pipeline.rehearsal.cloud.model_server"]
        environment = {**os.environ, **self._environment}
        with self._log.open("wb") as log:
            pipe = subprocess.PIPE
            return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True, env=environment)

    def _log_end(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:])


def serve(requests: IO[str], responses: IO[str]) -> None:
    """Answer one request after the other until there are no more."""
    for line in requests:
        print(json.dumps(_respond(json.loads(line))), file=responses, flush=True)


class _SessionModel:
    """A SavedModel in a session; its signature has one input, the encoded images."""

    def __init__(self, uri: str) -> None:
        import tensorflow as tf

        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph)
        with graph.as_default():
            loaded = tf.compat.v1.saved_model.load(self._session, [tf.saved_model.SERVING], uri)
        signature = loaded.signature_def[SIGNATURE]
        ((self.input, tensor),) = signature.inputs.items()
        self._fed = tensor.name
        self._fetched = {name: output.name for name, output in signature.outputs.items()}

    def predict(self, images: Sequence[bytes]) -> list[dict[str, Any]]:
        """Return the outputs for each image, by name.

        Raises:
          InvalidInstance: The model refuses one of them.
        """
        import tensorflow as tf

        try:
            outputs = self._session.run(self._fetched, {self._fed: list(images)})
        except tf.errors.InvalidArgumentError as error:
            raise InvalidInstance(f"the model refuses the image: {_reason(error.message)}") from error
        names, columns = outputs.keys(), [column.tolist() for column in outputs.values()]
        return [dict(zip(names, map(_plain, row), strict=True)) for row in zip(*columns, strict=True)]


@cache
def _load(uri: str) -> _SessionModel:
    return _SessionModel(uri)


def _respond(request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        model = _load(request["model"])
        if "instances" in request:
            return {"result": model.predict([_image(instance, model.input) for instance in request["instances"]])}
        return {"result": _predict_files(model, request["file_list"], request["output"])}
    except InvalidInstance as error:
        return {"invalid": str(error)}
    except Exception as error:  # TensorFlow raises many types; the process keeps serving other models
        return {"error": f"{request['model']}: {described(error)}"}


def _image(instance: Any, name: str) -> bytes:
    encoded: Any = instance.get(name, instance) if isinstance(instance, Mapping) else None
    try:
        return base64.b64decode(encoded["b64"], validate=True)
    except (TypeError, KeyError, binascii.Error) as error:
        raise InvalidInstance(
            f'{json.dumps(instance)[:100]} is not an image. Send {{"{name}": {{"b64": "..."}}}}.'
        ) from error


def _predict_files(model: _SessionModel, file_list: str, output: str) -> int:
    uris = [line.strip() for line in storage.read(file_list).decode().split("\n") if line.strip()]
    predicted = 0
    with tempfile.TemporaryDirectory() as scratch:
        with ResultsWriter(scratch, "results", datetime.now(UTC)) as results:
            for start in range(0, len(uris), BATCH_IMAGES):
                predicted += _predict_part(model, uris[start : start + BATCH_IMAGES], results)
        for file in storage.files(results.folder):
            storage.write(storage.join(output, file.name), Path(results.folder, file.name).read_bytes())
    return predicted


def _predict_part(model: _SessionModel, uris: Sequence[str], results: ResultsWriter) -> int:
    readable = []
    for uri, data in zip(uris, storage.read_many(uris), strict=True):
        if isinstance(data, bytes):
            readable.append((uri, data))
        else:
            results.error(uri, NOT_FOUND, f"could not be read: {data}")
    return _predict_readable(model, readable, results)


def _predict_readable(model: _SessionModel, images: Sequence[tuple[str, bytes]], results: ResultsWriter) -> int:
    """Predict them together; if the model refuses them, each alone."""
    if not images:
        return 0
    try:
        predictions = model.predict([data for _, data in images])
    except InvalidInstance as error:
        if len(images) > 1:
            return sum(_predict_readable(model, [image], results) for image in images)
        results.error(images[0][0], INVALID_ARGUMENT, str(error))
        return 0
    for (uri, _), prediction in zip(images, predictions, strict=True):
        results.prediction(uri, **prediction)
    return len(images)


def _reason(message: str) -> str:
    """Return the line with the reason; the lines around it say where."""
    said = _REASON.search(message)
    return (said[1] if said else message.strip().split("\n")[0])[:300]


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


if __name__ == "__main__":
    # What TensorFlow prints must not come between the responses.
    responses = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin, responses)
