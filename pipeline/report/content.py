"""The facts of a report: one immutable value, of which the page shows nothing but what is in it.

Shares (accuracies, bounds, recalls) are between 0 and 1, times ISO 8601 in UTC; "" and None stand for what is not
known. Where the facts come from is in `collect`, how they look in `page`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from adaptation.data.labels import Skipped
from adaptation.evaluation.accuracy import ClassFigures
from adaptation.evaluation.gate import Outcome, Rule
from pipeline.run_history import TaskRun


@dataclass(frozen=True)
class Rules:
    """The settings that decide: when to retrain, and what the gate demands."""

    threshold: float
    rule: str
    min_images: int
    floor: float
    margin: float


@dataclass(frozen=True)
class Summary:
    """The state of the system in a few figures.

    Attributes:
      champion: Number of the serving version.
      batch: The batch that was evaluated last.
      accuracy: Of the version that was serving then, on that batch.
      low: Lower end of its 95 % interval.
      high: Upper end.
      spans: How many are published.
      images: How many they have together.
      evaluations: How many ended with a figure.
      retrainings: How many trainings an evaluation has started.
    """

    champion: int | None
    batch: str
    accuracy: float | None
    low: float | None
    high: float | None
    spans: int
    images: int
    evaluations: int
    retrainings: int


class Kind(StrEnum):
    """What an event is. PROMOTION: a version began to serve otherwise than by the training that made it."""

    EVALUATION = "evaluation"
    TRAINING = "training"
    PROMOTION = "promotion"


@dataclass(frozen=True)
class Event:
    """A step in the story of the system.

    Attributes:
      kind: What it was.
      time: When it began.
      subject: The batch that was evaluated, the spans that were trained on, the version that was promoted.
      job: Id of its job; "" for a promotion.
      outcome: retrain, keep or too few; the standing of the version that a training made, deployed, refused, undecided,
        waiting or ended; promoted; or the state of a job that has not succeeded.
      reason: Why, in a sentence.
      cause: What started it, in a sentence.
      images: How many images were evaluated.
      correct: How many of them were predicted correctly.
      accuracy: Their share.
      low: Lower end of its 95 % interval.
      high: Upper end.
      version: The version that was evaluated, made or promoted.
      serving: The version that was serving when it had ended.
      seconds: How long its job took.
      evidence: Share of the evidence that a retraining takes, 0 to 1.
      look: How the batch seemed before its labels were read, in a sentence.
    """

    kind: Kind
    time: str
    subject: str
    job: str
    outcome: str
    reason: str
    cause: str = ""
    images: int | None = None
    correct: int | None = None
    accuracy: float | None = None
    low: float | None = None
    high: float | None = None
    version: int | None = None
    serving: int | None = None
    seconds: float | None = None
    evidence: float | None = None
    look: str = ""


@dataclass(frozen=True)
class Picture:
    """An image, scaled down: its name and label, and its content as a `data:` URI."""

    name: str
    label: str
    source: str


@dataclass(frozen=True)
class LabelCount:
    """The number of a label's images in each split of a span."""

    label: str
    train: int
    test: int


@dataclass(frozen=True)
class SpanFacts:
    """A published span; `run` made it, `samples` are some of its images."""

    span: int
    batch: str
    created: str
    run: str
    images: int
    train: int
    test: int
    labels: tuple[LabelCount, ...]
    skipped: int
    samples: tuple[Picture, ...]


@dataclass(frozen=True)
class Confusion:
    """The number of images of one label that were predicted as another."""

    truth: str
    predicted: str
    images: int


@dataclass(frozen=True)
class MistakeFacts:
    """An image that was predicted wrongly, with the image where it could be found."""

    name: str
    truth: str
    predicted: str
    confidence: float | None
    picture: Picture | None


@dataclass(frozen=True)
class SeenFacts:
    """An image and what was predicted, with the image if it could be found."""

    name: str
    label: str
    confidence: float | None
    picture: Picture | None


@dataclass(frozen=True)
class LookFacts:
    """The last look at a batch, which no label was read for.

    Attributes:
      job: Id of its job.
      batch: The batch.
      outcome: calm, look or unknown.
      reason: Why, in a sentence.
      images: How many images were predicted.
      confidence_divergence: Jensen-Shannon divergence of the confidences from the champion's test images, in bits.
      classes_divergence: That of the predicted classes.
      estimate: An estimate of the accuracy, which holds only with the caveat.
      caveat: When it holds.
      span: Number of the newest span that the champion knows, whose samples stand beside the images; None if unknown.
      typical: Some of the batch's images, drawn by chance.
      strangest: Those with the lowest confidence, the lowest first.
    """

    job: str
    batch: str
    outcome: str
    reason: str
    images: int
    confidence_divergence: float | None
    classes_divergence: float | None
    estimate: float | None
    caveat: str
    span: int | None
    typical: tuple[SeenFacts, ...]
    strangest: tuple[SeenFacts, ...]


@dataclass(frozen=True)
class EvaluationFacts:
    """The last evaluation.

    Attributes:
      job: Id of its job.
      batch: The batch.
      images: How many images were evaluated.
      correct: How many of them were predicted correctly.
      accuracy: Their share.
      low: Lower end of its 95 % interval.
      high: Upper end.
      reason: What was decided, in a sentence.
      label_names: The labels.
      matrix: A row for each true label, in it the number of images for each predicted one; empty where there are too
        many labels to be shown.
      confusions: The pairs of labels that were confused most often.
      worst: The classes, the one with the lowest recall first.
      mistakes: Images that were predicted wrongly, the most confident first.
    """

    job: str
    batch: str
    images: int
    correct: int
    accuracy: float | None
    low: float
    high: float
    reason: str
    label_names: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]
    confusions: tuple[Confusion, ...]
    worst: tuple[ClassFigures, ...]
    mistakes: tuple[MistakeFacts, ...]


@dataclass(frozen=True)
class Match:
    """Both models on the same test images.

    Attributes:
      images: Number of images.
      challenger: The challenger's accuracy.
      champion: The champion's; None if there was none.
      challenger_only: Number of images that only the challenger had right.
      champion_only: Number of images that only the champion had right.
    """

    images: int
    challenger: float
    champion: float | None
    challenger_only: int
    champion_only: int


@dataclass(frozen=True)
class SpanMatch:
    """Both models on a span's test split."""

    span: int
    match: Match


@dataclass(frozen=True)
class LabelMatch:
    """Both models on the images of a label: on those of all spans that were trained on, and on the newest span's."""

    label: str
    all: Match
    newest: Match | None


@dataclass(frozen=True)
class MetricMatch:
    """A further metric on the test images of each model's own training; `champion` is None if it has no such figure."""

    name: str
    challenger: float
    champion: float | None


@dataclass(frozen=True)
class ComparisonFacts:
    """The newest challenger against the champion that it met, and the gate's verdict."""

    job: str
    outcome: Outcome
    reason: str
    rules: tuple[Rule, ...]
    newest: int | None
    spans: tuple[SpanMatch, ...]
    labels: tuple[LabelMatch, ...]
    metrics: tuple[MetricMatch, ...]


@dataclass(frozen=True)
class Origin:
    """Where a span came from: its batch, and the run that made it."""

    span: int
    batch: str
    run: str


@dataclass(frozen=True)
class Lineage:
    """What the champion was made from.

    Attributes:
      version: Its number.
      created: When it was registered.
      run: The pipeline run that trained it.
      code: Version of the code that did.
      evaluation: Id of the evaluation that caused that run; "" where a person did.
      evidence: What the evaluation concluded, in a sentence.
      reason: Why it was promoted.
      spans: What it was trained on.
    """

    version: int
    created: str
    run: str
    code: str
    evaluation: str
    evidence: str
    reason: str
    spans: tuple[Origin, ...]


@dataclass(frozen=True)
class SkippedFacts:
    """What was left out where, how many of how many, and some of them with the reason."""

    where: str
    count: int
    total: int
    examples: tuple[Skipped, ...]


@dataclass(frozen=True)
class RunFacts:
    """A pipeline run and its tasks, in the order in which they began; `seconds` is their sum."""

    job: str
    pipeline: str
    started: str
    seconds: float
    tasks: tuple[TaskRun, ...]


@dataclass(frozen=True)
class NewsFacts:
    """An event that people and other systems are notified of, see `adaptation.events`.

    Attributes:
      time: When it happened.
      kind: What happened, in words.
      subject: What it happened to, like batch/2021-10.
      message: A sentence for a person.
      undelivered: The receivers that have not taken it, separated by commas.
    """

    time: str
    kind: str
    subject: str
    message: str
    undelivered: str


@dataclass(frozen=True)
class JobEnergy:
    """The CPU time of a job in seconds, and the estimates of its energy in kWh and of the CO2 in grams."""

    job: str
    seconds: float
    kwh: float
    grams: float


@dataclass(frozen=True)
class EnergyFacts:
    """What the measured jobs of this machine used.

    Attributes:
      count: How many were measured.
      seconds: Their CPU time together.
      kwh: An estimate of their energy together.
      grams: An estimate of the CO2 together, in grams.
      watts_per_cpu: What the estimates take for a busy CPU thread.
      grams_per_kwh: What they take for the CO2 of a kWh.
      jobs: The newest of the jobs, the newest first.
    """

    count: int
    seconds: float
    kwh: float
    grams: float
    watts_per_cpu: float
    grams_per_kwh: float
    jobs: tuple[JobEnergy, ...]


@dataclass(frozen=True)
class Facts:
    """All that a report shows.

    Attributes:
      name: Name of the deployment.
      platform: `local` or `vertex`.
      created: When the report was made.
      rules: The settings that decide.
      summary: The state in a few figures.
      events: The story, the first first; of a long one its newest part.
      spans: The newest published spans, the first first.
      look: The last look at a batch.
      evaluation: The last one that ended with figures.
      comparison: The newest challenger against the champion.
      lineage: What the champion was made from.
      skipped: What was left out, the newest first.
      runs: The newest pipeline runs with their tasks, the newest first.
      news: The newest events that people are notified of, the newest first.
      energy: What the jobs of this machine used; None if none was measured.
      missing: A sentence for each part that could not be read, or is not kept.
      next_steps: What to do first if there is not much yet, or for a decided training that has not come to its end.
    """

    name: str
    platform: str
    created: str
    rules: Rules
    summary: Summary
    events: tuple[Event, ...]
    spans: tuple[SpanFacts, ...]
    look: LookFacts | None
    evaluation: EvaluationFacts | None
    comparison: ComparisonFacts | None
    lineage: Lineage | None
    skipped: tuple[SkippedFacts, ...]
    runs: tuple[RunFacts, ...]
    news: tuple[NewsFacts, ...]
    energy: EnergyFacts | None
    missing: tuple[str, ...]
    next_steps: tuple[str, ...]
