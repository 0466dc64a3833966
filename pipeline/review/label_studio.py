"""Tasks for Label Studio: images to classify, with the model's predictions, and the configuration of the page.

The forms are those of https://labelstud.io/guide/tasks and https://labelstud.io/guide/predictions. The exports of the
tool are read by `adaptation.data.reviews`.
"""

from __future__ import annotations

import base64
import json
import mimetypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

from adaptation.data.decoding import LARGEST_FILE
from adaptation.io import storage

TASKS, CONFIG = "tasks.json", "label-studio.xml"
_FROM, _TO = "label", "image"


@dataclass(frozen=True)
class Task:
    """An image to label.

    Attributes:
      path: Its path in a table, which the export of the tool repeats.
      uri: Where it is.
      size: Its bytes.
      predicted: The predicted label; empty for none.
      confidence: The confidence of that; None if the model gave none.
    """

    path: str
    uri: str
    size: int
    predicted: str = ""
    confidence: float | None = None


def config(names: Sequence[str]) -> bytes:
    """Return the labelling configuration: one image, one choice among the labels."""
    choices = "".join(f"    <Choice value={quoteattr(name)}/>\n" for name in names)
    return (
        f'<View>\n  <Image name="{_TO}" value="${_TO}"/>\n'
        f'  <Choices name="{_FROM}" toName="{_TO}" choice="single">\n{choices}  </Choices>\n</View>\n'
    ).encode()


def tasks(images: Iterable[Task]) -> bytes:
    """Return tasks to import. Images of this machine are part of them, those on object storage are named by URI."""
    return json.dumps([_task(image) for image in images], ensure_ascii=False, indent=1).encode()


def _task(image: Task) -> dict[str, Any]:
    task: dict[str, Any] = {"data": {_TO: _source(image), "path": image.path}}
    if image.predicted:
        task["predictions"] = [_prediction(image)]
    return task


def _prediction(image: Task) -> dict[str, Any]:
    choice = {"from_name": _FROM, "to_name": _TO, "type": "choices", "value": {"choices": [image.predicted]}}
    score = {} if image.confidence is None else {"score": image.confidence}
    return {"model_version": "champion", **score, "result": [choice]}


def _source(image: Task) -> str:
    if not storage.is_local(image.uri) or image.size > LARGEST_FILE:
        return image.uri
    kind = mimetypes.guess_type(image.uri.lower())[0] or "image/jpeg"
    return f"data:{kind};base64,{base64.b64encode(storage.read(image.uri)).decode()}"
