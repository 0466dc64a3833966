"""The facts of the story, read from the files as plain JSON, TOML and SQL, without any of the report's code."""

from __future__ import annotations

import json
import sqlite3
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.worlds.report import Story

Json = dict[str, Any]
NO_FIGURES = dict.fromkeys(("images", "accuracy", "evidence"))


def read_sources(story: Story) -> Json:
    """Return all that the page shows, under the paths of the report's JSON."""
    folder = story.folder
    settings = tomllib.loads((folder / "adapt.toml").read_text())
    manifests = [load(file) for file in sorted((folder / "data").glob("span-*/manifest.json"))]
    evaluations = {job: load(file) for job in jobs(folder) if (file := evaluation_file(folder, job)).exists()}
    events = sorted([event(folder, job) for job in jobs(folder)] + [rolled_back(folder)], key=lambda one: one["time"])
    last = max(evaluations, key=lambda job: jobs(folder)[job]["created"])
    measured = evaluations[last]
    return {
        "name": settings["name"],
        "rules": {"threshold": settings["evaluation"]["threshold"], "floor": settings["gate"]["floor"]},
        "summary": {
            "champion": promotions(folder)[-1]["version"],
            "batch": measured["batch"],
            "accuracy": measured["accuracy"],
            "low": measured["interval"]["low"],
            "high": measured["interval"]["high"],
            "spans": len(manifests),
            "images": sum(map(images_of, manifests)),
            "evaluations": len(evaluations),
            "retrainings": sum(1 for job in jobs(folder) if result(folder, job).get("training")),
        },
        "events": events,
        "spans": [span(manifest) for manifest in manifests],
        "look": look(folder, last),
        "evaluation": evaluation(folder, last, measured),
        "comparison": comparison(folder, "training-refused"),
        "lineage": lineage(folder, manifests),
        "skipped": [
            skipped(f"evaluation of {measured['batch']}, {last}", measured["skipped"], measured["images"]),
            skipped("span-1, from bootstrap", manifests[0]["skipped"], images_of(manifests[0])),
        ],
        "runs": runs(folder),
        "news": news(folder),
        "energy": energy(folder),
    }


def load(file: Path) -> Any:
    return json.loads(file.read_bytes())


def images_of(manifest: Json) -> int:
    return sum(shard["images"] for shard in manifest["shards"])


def jobs(folder: Path) -> dict[str, Json]:
    """Return the requests by id."""
    return {file.parent.name: load(file) for file in (folder / "jobs").glob("*/request.json")}


def result(folder: Path, job: str) -> Json:
    file = folder / "jobs" / job / "result.json"
    return dict(load(file)) if file.exists() else {}


def promotions(folder: Path) -> list[Json]:
    return [load(file) for file in sorted((folder / "registry" / "champion").glob("*.json"))]


def versions(folder: Path) -> list[Json]:
    return [load(file) for file in (folder / "registry" / "versions").glob("*/version.json")]


def evaluation_file(folder: Path, job: str) -> Path:
    return folder / "pipelines" / "evaluation" / job / "metrics" / "evaluation.json"


def serving(folder: Path, moment: str) -> int | None:
    before = [one["version"] for one in promotions(folder) if one["time"] <= moment]
    return before[-1] if before else None


def event(folder: Path, job: str) -> Json:
    request, state = load(folder / "jobs" / job / "request.json"), load(folder / "jobs" / job / "state.json")
    common = {
        "kind": request["pipeline"],
        "time": request["created"],
        "job": job,
        "serving": serving(folder, state["time"]),
        "seconds": (datetime.fromisoformat(state["time"]) - datetime.fromisoformat(request["created"])).total_seconds(),
    }
    if request["pipeline"] == "training":
        return common | trained(folder, job)
    return common | evaluated(folder, job, request, state)


def trained(folder: Path, job: str) -> Json:
    made = next((version["number"] for version in versions(folder) if version["run"] == job), None)
    cause = next((other for other in jobs(folder) if result(folder, other).get("training") == job), None)
    return {
        "subject": result(folder, job)["spans"],
        "outcome": "deployed" if result(folder, job)["deployed"] else "refused",
        "reason": result(folder, job)["reason"],
        "cause": f"started by {cause}" if cause else "started by hand",
        "version": made,
        **dict.fromkeys(("images", "accuracy", "low", "high", "evidence")),
    }


def evaluated(folder: Path, job: str, request: Json, state: Json) -> Json:
    month = request["parameters"]["batch"]
    common = {
        "subject": month,
        "version": serving(folder, request["created"]),
        "cause": load(folder / "triggers" / month / "0001.json")["reason"],
    }
    if state["state"] == "FAILED":
        return common | {"outcome": "failed", "reason": state["message"]} | NO_FIGURES
    figures = load(evaluation_file(folder, job))
    decision = load(evaluation_file(folder, job).with_name("decision.json"))
    return common | {
        "outcome": decision["outcome"],
        "reason": decision["reason"],
        "evidence": decision["evidence"],
        "look": decision["look"],
        "images": figures["images"],
        "accuracy": figures["accuracy"],
        **figures["interval"],
    }


def rolled_back(folder: Path) -> Json:
    last = promotions(folder)[-1]
    return {
        "kind": "promotion",
        "time": last["time"],
        "subject": f"version {last['version']}",
        "outcome": "promoted",
        "reason": last["reason"],
        "version": last["version"],
        "serving": last["version"],
        **dict.fromkeys(("images", "accuracy", "low", "high", "evidence")),
    }


def span(manifest: Json) -> Json:
    counts = manifest["counts"]
    return {
        "span": manifest["span"],
        "batch": manifest["batch"],
        "created": manifest["created"],
        "run": manifest["run"],
        "images": sum(sum(split.values()) for split in counts.values()),
        "train": sum(counts["train"].values()),
        "test": sum(counts["test"].values()),
        "skipped": len(manifest["skipped"]),
        "labels": [
            {"label": label, "train": counts["train"][label], "test": counts["test"][label]}
            for label in manifest["labels"]
        ],
    }


def look(folder: Path, job: str) -> Json:
    record = load(evaluation_file(folder, job).parents[1] / "look" / "look.json")
    version = next(one for one in versions(folder) if one["number"] == record["version"])
    return record["look"] | {
        "job": job,
        "batch": record["batch"],
        "span": version["spans"][-1],
        "typical": record["typical"],
        "strangest": record["strangest"],
    }


def evaluation(folder: Path, job: str, figures: Json) -> Json:
    names, confusion = figures["label_names"], figures["confusion"]
    cells = [
        {"truth": names[row], "predicted": names[column], "images": confusion[row][column]}
        for row in range(len(names))
        for column in range(len(names))
        if row != column and confusion[row][column]
    ]
    return {
        **{key: figures[key] for key in ("batch", "images", "correct", "accuracy", "label_names", "mistakes")},
        **figures["interval"],
        "job": job,
        "reason": load(evaluation_file(folder, job).with_name("decision.json"))["reason"],
        "matrix": confusion,
        "confusions": sorted(cells, key=lambda cell: -cell["images"]),
        "worst": sorted(figures["classes"], key=lambda one: (one["recall"], one["label"])),
    }


def comparison(folder: Path, job: str) -> Json:
    blessing = folder / "pipelines" / "training" / job / "blessing"
    verdict, pairs = load(blessing / "verdict.json"), load(blessing / "pairs.json")
    counts = pairs["counts"]
    newest = max(one["span"] for one in counts)
    (theirs,) = (one["metrics"] for one in versions(folder) if one["number"] == pairs["champion"])
    return {
        "job": job,
        **{key: verdict[key] for key in ("reason", "rules")},
        "newest": newest,
        "spans": [
            {"span": span, "match": match([one for one in counts if one["span"] == span])}
            for span in sorted({one["span"] for one in counts})
        ],
        "labels": [
            {
                "label": label,
                "all": match([one for one in counts if one["label"] == label]),
                "newest": match([one for one in counts if (one["span"], one["label"]) == (newest, label)]),
            }
            for label in sorted({one["label"] for one in counts})
        ],
        "metrics": [
            {"name": name, "challenger": value, "champion": theirs[name]}
            for name, value in load(blessing / "further_metrics.json").items()
        ],
    }


def match(counts: list[Json]) -> Json:
    both, champion_only, challenger_only, neither = (
        sum(one["pairs"][key] for one in counts) for key in ("both", "champion_only", "challenger_only", "neither")
    )
    images = both + champion_only + challenger_only + neither
    return {
        "images": images,
        "challenger": (both + challenger_only) / images,
        "champion": (both + champion_only) / images,
        "challenger_only": challenger_only,
        "champion_only": champion_only,
    }


def lineage(folder: Path, manifests: list[Json]) -> Json:
    number = promotions(folder)[-1]["version"]
    version = next(one for one in versions(folder) if one["number"] == number)
    return {
        "version": number,
        "created": version["created"],
        "run": version["run"],
        "code": version["code"],
        "reason": promotions(folder)[-1]["reason"],
        "spans": [
            {"span": one["span"], "batch": one["batch"], "run": one["run"]}
            for one in manifests
            if one["span"] in version["spans"]
        ],
    }


def skipped(where: str, images: list[Json], taken: int) -> Json:
    return {"where": where, "count": len(images), "total": len(images) + taken, "examples": images}


def news(folder: Path) -> list[Json]:
    events = load(folder / "triggers" / "events" / "0001.json")["events"]
    kinds = {"retraining.decided": "retraining: decided", "challenger.undecided": "challenger: undecided"}
    return [one | {"kind": kinds[one["kind"]], "undelivered": ""} for one in reversed(events)]


def energy(folder: Path) -> Json:
    newest = sorted(jobs(folder).items(), key=lambda one: str(one[1]["created"]), reverse=True)
    used = [{"job": job} | used_by(load(folder / "jobs" / job / "usage.json")) for job, _ in newest]
    sums = {key: sum(one[key] for one in used) for key in ("seconds", "kwh", "grams")}
    return {"count": len(used), "jobs": used, "watts_per_cpu": 4.0, "grams_per_kwh": 475.0, **sums}


def used_by(usage: Json) -> Json:
    kwh = (usage["cpu_seconds"] * 4 + usage["gpu_joules"]) / 3_600_000
    return {"seconds": usage["cpu_seconds"], "kwh": kwh, "grams": kwh * 475}


def runs(folder: Path) -> list[Json]:
    found = [run for name in ("training", "evaluation") for run in runs_of(folder / "metadata" / f"{name}.sqlite")]
    return sorted(found, key=lambda run: run["started"], reverse=True)


def runs_of(database: Path) -> list[Json]:
    with sqlite3.connect(database) as sql:
        contexts = sql.execute(
            "SELECT c.id, c.name, p.string_value FROM Context c JOIN ContextProperty p ON p.context_id = c.id "
            "JOIN Type t ON t.id = c.type_id WHERE t.name = 'pipeline_run' AND p.name = 'job'"
        ).fetchall()
        return [{"started": name, "job": job, **tasks(sql, number)} for number, name, job in contexts]


def tasks(sql: sqlite3.Connection, run: int) -> Json:
    rows = sql.execute(
        "SELECT t.name, e.last_update_time_since_epoch - e.create_time_since_epoch FROM Execution e "
        "JOIN Type t ON t.id = e.type_id JOIN Association a ON a.execution_id = e.id WHERE a.context_id = ? "
        "ORDER BY e.id",
        (run,),
    ).fetchall()
    return {
        "seconds": sum(milliseconds for _, milliseconds in rows) / 1000,
        "tasks": [{"name": name, "seconds": milliseconds / 1000} for name, milliseconds in rows],
    }
