"""ModelComparator: challenger and champion predict the same test images, and who was right on each is counted.

What the counts decide is in `adaptation.evaluation.gate`. What the challenger predicts is kept as the reference that
later batches are looked at with, `adaptation.evaluation.look`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from apache_beam.utils.shared import Shared
from tfx import v1 as tfx
from tfx.types import artifact_utils
from tfx.types.experimental.simple_artifacts import File
from tfx.types.standard_artifacts import Examples, Model
from tfx.utils import path_utils

from adaptation import codec
from adaptation.data.label_tables import nfc
from adaptation.errors import AdaptationError
from adaptation.evaluation.gate import Comparison
from adaptation.evaluation.look import Profile, Reference
from adaptation.evaluation.paired import Pairs, total
from adaptation.io import storage
from components import artifacts

SIGNATURE = "evaluate"
BATCH_IMAGES = 128
_SPEC = "assets.extra/spec.json"
_FEATURES = {name: tf.io.FixedLenFeature([], tf.int64) for name in ("span", "label")}
_NO_CLASS = -1

Key = tuple[int, str]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@tfx.dsl.components.component(use_beam=True)
def ModelComparator(
    examples: tfx.dsl.components.InputArtifact[Examples],
    model: tfx.dsl.components.InputArtifact[Model],
    champion: tfx.dsl.components.InputArtifact[Model],
    comparison: tfx.dsl.components.OutputArtifact[File],
    beam_pipeline: tfx.dsl.components.BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Counts, on Beam with one element a record file, on which test images which of the two models is right.

    Args:
      examples: Those that the challenger was trained with; its split `eval` is predicted.
      model: The challenger.
      champion: ChampionGen's; with the custom property `version` 0 there is none, and it counts as wrong everywhere.
      comparison: Gets `pairs.json`, an `adaptation.evaluation.gate.Comparison`, and `reference.json`, an
        `adaptation.evaluation.look.Reference` of the challenger.
      beam_pipeline: TFX's; its runner is the one that the pipeline's beam arguments name.

    Raises:
      AdaptationError: A model does not name its classes, or the champion knows none of the challenger's.

    Failure: each file is written whole or not at all; a retry replaces both.
    """
    version, folder = champion.get_int_custom_property("version"), comparison.uri
    models = [path_utils.serving_model_dir(one.uri) for one in ([model, champion] if version else [model])]
    files = tf.io.gfile.glob(f"{artifact_utils.get_split_uri([examples], 'eval')}/*")
    with beam_pipeline:
        (
            beam_pipeline
            | "Files" >> beam.Create(sorted(files))
            | "Spread" >> beam.Reshuffle()
            | "Count" >> beam.ParDo(_Count(models))
            | "Total" >> beam.CombineGlobally(Counts.sum)
            | "Write" >> beam.Map(lambda counts: counts.write(folder, version))
        )


@dataclass(frozen=True)
class Counts:
    """What was counted on some test images.

    Attributes:
      tests: On how many images which of both models is right, by number of span and name of class.
      profile: What the challenger predicts.
    """

    tests: Mapping[Key, Pairs]
    profile: Profile

    @classmethod
    def sum(cls, parts: Iterable["Counts"]) -> "Counts":
        """Return the sum of any number of counts, in any order."""
        every = list(parts)
        keys = {key for part in every for key in part.tests}
        tests = {key: total(part.tests[key] for part in every if key in part.tests) for key in keys}
        return cls(tests, Profile.sum(part.profile for part in every))

    def write(self, folder: str, version: int) -> None:
        """Write `reference.json` and `pairs.json`; `version` is the champion's number."""
        compared = Comparison.of(version, self.tests)
        reference = Reference(self.profile, compared.recalls)
        storage.write(storage.join(folder, artifacts.REFERENCE), codec.encode(reference, indent=0))
        storage.write(storage.join(folder, artifacts.PAIRS), codec.encode(compared))


def count(files: Sequence[str], challenger: str, champion: str = "") -> Counts:
    """Return the counts on all images of some files.

    Args:
      files: TFRecord files of Examples; what ends in `.gz` is compressed.
      challenger: Folder of the SavedModel.
      champion: That of the other; empty if there is none.

    Raises:
      AdaptationError: As for `ModelComparator`.
    """
    return _Both.load([challenger, champion] if champion else [challenger]).count(files)


class _Count(beam.DoFn):  # type: ignore[misc]
    """Counts a file's records; the models are loaded once in each worker process."""

    def __init__(self, models: list[str]) -> None:
        super().__init__()
        self._models, self._shared = models, Shared()

    def setup(self) -> None:
        self._both = self._shared.acquire(lambda: _Both.load(self._models))

    def process(self, file: str) -> Iterator[Counts]:
        yield self._both.count([file])


class _Answers:
    """A loaded model, and the names of its classes."""

    def __init__(self, folder: str) -> None:
        self._folder, self.labels, self._model = folder, _labels(folder), tf.saved_model.load(folder)
        if SIGNATURE not in self._model.signatures:
            raise AdaptationError(
                f"the model in {folder} has no signature {SIGNATURE!r}. Export it with models.export."
            )

    def __call__(self, examples: tf.Tensor) -> tuple[Ints, Floats]:
        """Return the class of each image (int64 [batch]), an index into `labels`, and the probabilities.

        The class of what is no number is none.
        """
        given = self._model.signatures[SIGNATURE](examples=examples)["probabilities"].numpy()
        if given.shape[1] != len(self.labels):
            raise AdaptationError(
                f"the model in {self._folder} has {given.shape[1]} outputs, but {_SPEC} in it names {len(self.labels)} "
                "classes. Export it with this package."
            )
        chosen: Ints = np.where(np.isfinite(given).all(axis=1), given.argmax(axis=1), _NO_CLASS)
        return chosen, given

    def profile(self, chosen: Ints, probabilities: Floats) -> Profile:
        """Return the profile of images with these classes and probabilities; what has no class is left out."""
        known = chosen != _NO_CLASS
        given = probabilities[known]
        numbers = Counter(chosen[known].tolist())
        predicted = {self.labels[label]: images for label, images in numbers.items()}
        return Profile.of(predicted, given.max(axis=1), given)


@dataclass(frozen=True)
class _Both:
    """Challenger and champion; `known` has the challenger's index of each of the champion's classes, and last none."""

    challenger: _Answers
    champion: _Answers | None
    known: Ints

    @classmethod
    def load(cls, folders: Sequence[str]) -> "_Both":
        challenger, champion = _Answers(folders[0]), _Answers(folders[1]) if len(folders) > 1 else None
        theirs = champion.labels if champion else ()
        index = {nfc(name): number for number, name in enumerate(challenger.labels)}
        if champion and not index.keys() & set(map(nfc, theirs)):
            raise AdaptationError(
                f"the champion knows the classes {', '.join(theirs)}, the challenger {', '.join(index)}: none is the "
                "same. Set labels.names as the champion has them, or start another registry for another task."
            )
        return cls(challenger, champion, np.array([*(index.get(nfc(name), _NO_CLASS) for name in theirs), _NO_CLASS]))

    def count(self, files: Sequence[str]) -> Counts:
        """Return the counts of the records in files."""
        found: Counter[tuple[int, ...]] = Counter()
        profiles = []
        for examples in _batches(files):
            truth = {name: value.numpy() for name, value in tf.io.parse_example(examples, _FEATURES).items()}
            chosen, probabilities = self.challenger(examples)
            profiles.append(self.challenger.profile(chosen, probabilities))
            ours = chosen == truth["label"]
            theirs = self.known[self.champion(examples)[0]] == truth["label"] if self.champion else np.zeros_like(ours)
            found.update(zip(*(each.tolist() for each in (truth["span"], truth["label"], ours, theirs)), strict=True))
        tests = {
            (span, self.challenger.labels[label]): Pairs(
                both=found[span, label, True, True],
                champion_only=found[span, label, False, True],
                challenger_only=found[span, label, True, False],
                neither=found[span, label, False, False],
            )
            for span, label in {key[:2] for key in found}
        }
        return Counts(tests, Profile.sum(profiles))


@dataclass(frozen=True)
class _Spec:
    labels: tuple[str, ...]


def _labels(folder: str) -> tuple[str, ...]:
    try:
        return codec.read(storage.join(folder, _SPEC), _Spec).labels
    except (FileNotFoundError, codec.UnreadableState) as error:
        raise AdaptationError(
            f"the model in {folder} does not name its classes ({_SPEC}: {error}). Export it with this package; if it "
            'is the champion, go back to another version with "adapt rollback".'
        ) from error


def _batches(files: Sequence[str]) -> Iterator[tf.Tensor]:
    for file in files:
        records: Any = tf.data.TFRecordDataset(file, compression_type="GZIP" if file.endswith(".gz") else "")
        yield from records.batch(BATCH_IMAGES)
