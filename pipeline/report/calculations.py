"""What a report computes: pure functions from the domain's values to the facts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from adaptation.data.labels import Skipped
from adaptation.data.spans import SPLITS, Manifest
from adaptation.evaluation.accuracy import ClassFigures, Evaluation
from adaptation.evaluation.gate import Comparison, Verdict
from adaptation.evaluation.look_records import LookRecord
from adaptation.evaluation.paired import Pairs
from adaptation.events import Event as Announced
from adaptation.platforms.base import Job, ModelVersion
from adaptation.platforms.local.usage import Usage
from pipeline.energy import EnergyFactors, energy
from pipeline.report.content import (
    ComparisonFacts,
    Confusion,
    EnergyFacts,
    EvaluationFacts,
    Event,
    JobEnergy,
    Kind,
    LabelCount,
    LabelMatch,
    Lineage,
    LookFacts,
    Match,
    MetricMatch,
    MistakeFacts,
    NewsFacts,
    Origin,
    Picture,
    SeenFacts,
    SkippedFacts,
    SpanFacts,
    SpanMatch,
    Summary,
)
from pipeline.report.timeline import BY_HAND, Sources

MATRIX_LABELS = 20
WORST = 10
SKIPPED_PLACES = 8
SKIPPED_EXAMPLES = 6


def summary(manifests: Sequence[Manifest], events: Sequence[Event], champion: ModelVersion | None) -> Summary:
    """Return the state of the system in a few figures."""
    measured = [event for event in events if event.accuracy is not None]
    last = measured[-1] if measured else None
    return Summary(
        champion=champion.number if champion else None,
        batch=last.subject if last else "",
        accuracy=last.accuracy if last else None,
        low=last.low if last else None,
        high=last.high if last else None,
        spans=len(manifests),
        images=sum(manifest.images for manifest in manifests),
        evaluations=len(measured),
        retrainings=sum(event.kind is Kind.TRAINING and event.cause != BY_HAND for event in events),
    )


def look(
    job: str,
    record: LookRecord,
    version: ModelVersion | None,
    typical: tuple[SeenFacts, ...],
    strangest: tuple[SeenFacts, ...],
) -> LookFacts:
    """Return the facts on a look; `version` is the champion that predicted."""
    found = record.look
    return LookFacts(
        job=job,
        batch=record.batch,
        outcome=found.outcome,
        reason=found.reason,
        images=found.images,
        confidence_divergence=found.confidence_divergence,
        classes_divergence=found.classes_divergence,
        estimate=found.estimate,
        caveat=found.caveat,
        span=max(version.spans, default=None) if version else None,
        typical=typical,
        strangest=strangest,
    )


def span(manifest: Manifest, samples: tuple[Picture, ...]) -> SpanFacts:
    """Return the facts on a span."""
    counts = manifest.counts
    return SpanFacts(
        span=manifest.span,
        batch=manifest.batch,
        created=manifest.created,
        run=manifest.run,
        images=manifest.images,
        train=manifest.images_in("train"),
        test=manifest.images_in("test"),
        labels=tuple(
            LabelCount(label, *(counts[split].get(label, 0) for split in SPLITS)) for label in manifest.labels
        ),
        skipped=len(manifest.skipped),
        samples=samples,
    )


def evaluation(job: str, found: Evaluation, reason: str, mistakes: tuple[MistakeFacts, ...]) -> EvaluationFacts:
    """Return the facts on an evaluation."""
    return EvaluationFacts(
        job=job,
        batch=found.batch,
        images=found.images,
        correct=found.correct,
        accuracy=found.accuracy,
        low=found.interval.low,
        high=found.interval.high,
        reason=reason,
        label_names=found.label_names,
        matrix=found.confusion if len(found.label_names) <= MATRIX_LABELS else (),
        confusions=_confusions(found),
        worst=_worst(found.classes),
        mistakes=mistakes,
    )


def comparison(
    job: str, verdict: Verdict, pairs: Comparison | None, metrics: Mapping[str, float], champion: ModelVersion | None
) -> ComparisonFacts:
    """Return the facts of a challenger.

    Args:
      job: Id of the training.
      verdict: The gate's.
      pairs: What it rests on; None if the run has not kept it.
      metrics: The challenger's further metrics.
      champion: The version that it was compared with, if known.
    """
    newest = max(pairs.by_span, default=None) if pairs else None
    theirs = champion.metrics if champion else {}
    return ComparisonFacts(
        job=job,
        outcome=verdict.outcome,
        reason=verdict.reason,
        rules=verdict.rules,
        newest=newest,
        spans=tuple(SpanMatch(span, _match(one, pairs)) for span, one in pairs.by_span.items()) if pairs else (),
        labels=tuple(_label_matches(pairs, newest)) if pairs else (),
        metrics=tuple(MetricMatch(name, value, theirs.get(name)) for name, value in sorted(metrics.items())),
    )


def lineage(champion: ModelVersion, sources: Sources, manifests: Iterable[Manifest]) -> Lineage:
    """Return what the champion was made from."""
    by_number = {manifest.span: manifest for manifest in manifests}
    cause = sources.cause_of(champion.run)
    reasons = (one.reason for one in reversed(sources.promotions) if one.version == champion.number)
    return Lineage(
        version=champion.number,
        created=champion.created,
        run=champion.run,
        code=champion.code,
        evaluation=cause,
        evidence=sources.reason_of(cause),
        reason=next(reasons, ""),
        spans=tuple(_origin(number, by_number.get(number)) for number in champion.spans),
    )


def skipped(manifests: Sequence[Manifest], sources: Sources) -> tuple[SkippedFacts, ...]:
    """Return the images that evaluations and spans have skipped."""
    evaluated = [
        _left_out(f"evaluation of {one.batch}, {job}", one.skipped, one.images)
        for job, one in sources.evaluations.items()
    ]
    prepared = [_left_out(f"span-{one.span}, from {one.batch}", one.skipped, one.images) for one in manifests]
    found = [one for one in [*reversed(evaluated), *reversed(prepared)] if one.count]
    return tuple(found[:SKIPPED_PLACES])


def next_steps(manifests: Sequence[Manifest], sources: Sources, collection: str) -> tuple[str, ...]:
    """Return what to do first in a workspace that has not completed the loop yet."""
    if not manifests:
        return ('Make a first span: "adapt init --images DIR", or "adapt init" for the digits of scikit-learn.',)
    if not sources.versions:
        return ('Train a first model: "adapt train".',)
    if not sources.evaluations:
        return (
            f"Put images into a folder for their month, like {collection}/2021-10.",
            'Evaluate them: "adapt evaluate", or let "adapt watch" do it when enough have arrived.',
        )
    return ()


def _worst(classes: Iterable[ClassFigures]) -> tuple[ClassFigures, ...]:
    with_images = [one for one in classes if one.recall is not None]
    return tuple(sorted(with_images, key=lambda one: (one.recall, one.label))[:WORST])


def news(event: Announced, undelivered: Sequence[str]) -> NewsFacts:
    """Return what is shown of an event that these receivers have not taken."""
    kind = event.kind.replace(".", ": ").replace("-", " ")
    return NewsFacts(event.time, kind, event.subject, event.message, ", ".join(undelivered))


def used(measured: Sequence[tuple[Job, Usage]], factors: EnergyFactors, most: int) -> EnergyFacts | None:
    """Return what measured jobs, the oldest first, used together, and so many of the newest each; None without any."""
    if not measured:
        return None
    together = energy([usage for _, usage in measured], factors)
    return EnergyFacts(
        count=together.jobs,
        seconds=sum(usage.cpu_seconds for _, usage in measured),
        kwh=together.kwh,
        grams=together.grams,
        watts_per_cpu=factors.watts_per_cpu,
        grams_per_kwh=factors.grams_per_kwh,
        jobs=tuple(_job_energy(job, usage, factors) for job, usage in reversed(measured[-most:])),
    )


def _job_energy(job: Job, usage: Usage, factors: EnergyFactors) -> JobEnergy:
    one = energy([usage], factors)
    return JobEnergy(job.id, usage.cpu_seconds, one.kwh, one.grams)


def _confusions(found: Evaluation) -> tuple[Confusion, ...]:
    names = found.label_names
    pairs = [
        Confusion(names[row], names[column], count)
        for row, counts in enumerate(found.confusion)
        for column, count in enumerate(counts)
        if count and row != column
    ]
    return tuple(sorted(pairs, key=lambda one: -one.images)[:WORST])


def _label_matches(pairs: Comparison, newest: int | None) -> Iterator[LabelMatch]:
    on_newest = {label: one for (span, label), one in pairs.tests.items() if span == newest}
    for label, one in pairs.by_label.items():
        yield LabelMatch(label, _match(one, pairs), _match(on_newest[label], pairs) if label in on_newest else None)


def _match(one: Pairs, pairs: Comparison) -> Match:
    champion = one.champion / one.images if pairs.champion else None
    return Match(one.images, one.challenger / one.images, champion, one.challenger_only, one.champion_only)


def _origin(number: int, manifest: Manifest | None) -> Origin:
    return Origin(number, manifest.batch, manifest.run) if manifest else Origin(number, "", "")


def _left_out(where: str, images: Sequence[Skipped], taken: int) -> SkippedFacts:
    return SkippedFacts(where, len(images), len(images) + taken, tuple(images[:SKIPPED_EXAMPLES]))
