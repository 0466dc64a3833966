"""Registry of Vertex AI: one upload per key over any failure, and the champion."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from adaptation.platforms.base import NoSuchModel, Standing
from adaptation.platforms.connect import connect
from adaptation.platforms.vertex.client import Ambiguous, VertexClient
from adaptation.platforms.vertex.config import Container
from adaptation.platforms.vertex.registry import VertexRegistry
from tests.worlds.vertex import ROOT, Vertex, an_upload, at_write


def test_version_is_uploaded_with_all_settings(vertex: Vertex) -> None:
    config = replace(
        vertex.config,
        container=Container("image", "/v1/models/m:predict", "/v1/models/m", 8501, ("--batching",)),
        encryption_key="projects/demo/locations/us-central1/keyRings/r/cryptoKeys/k",
        service_account="runner@demo.iam.gserviceaccount.com",
    )
    connect(config).registry.upload(an_upload())
    model = vertex.client.get(f"{config.parent}/models/ships@1")
    assert model["containerSpec"] == {
        "imageUri": "image",
        "predictRoute": "/v1/models/m:predict",
        "healthRoute": "/v1/models/m",
        "ports": [{"containerPort": 8501}],
        "args": ["--batching"],
    }
    assert (model["artifactUri"], model["displayName"]) == (f"{ROOT}/models/run-1", "ships")
    assert model["encryptionSpec"] == {"kmsKeyName": config.encryption_key}
    assert model["labels"] == {"continuous-adaptation": "ships"}


def test_versions_belong_to_one_model(vertex: Vertex) -> None:
    vertex.with_versions(3)
    models = list(vertex.client.list(f"{vertex.config.parent}/models", "models"))
    assert [model["displayName"] for model in models] == ["ships"]


@pytest.mark.parametrize("fault", [{"status": 429}, {"status": 503}, {"drop": "before"}, {"drop": "after"}])
@pytest.mark.parametrize("before", [0, 1])
def test_upload_makes_one_version_over_any_failure(vertex: Vertex, fault: dict[str, Any], before: int) -> None:
    vertex.with_versions(before)
    vertex.server.fail_next("POST .*:upload", times=2, **fault)
    version = vertex.registry.upload(an_upload("new"))
    assert (version.number, version.key) == (before + 1, "new")
    assert len(vertex.registry.versions()) == before + 1


def test_upload_whose_answer_was_lost_is_not_sent_again(vertex: Vertex) -> None:
    vertex.with_versions(1)
    vertex.server.fail_next("POST .*:upload", drop="after")
    vertex.registry.upload(an_upload("new"))
    assert vertex.server.count("POST .*:upload") == 2  # the first version's and this one


def test_display_name_of_two_models_is_refused_and_both_are_named(vertex: Vertex) -> None:
    vertex.with_versions(1)
    body = {"modelId": "other", "model": {"displayName": "ships", "containerSpec": {"imageUri": "image"}}}
    vertex.client.wait(vertex.client.send(f"{vertex.config.parent}/models:upload", body))
    for ask in (vertex.registry.find, vertex.registry.versions, lambda: vertex.registry.upload(an_upload("new"))):
        with pytest.raises(Ambiguous, match="models/other and .*models/ships"):
            ask()


def test_version_uploaded_by_hand_can_be_the_champion(vertex: Vertex) -> None:
    model = {"displayName": "ships", "containerSpec": {"imageUri": "image"}, "artifactUri": "gs://elsewhere/model"}
    body = {"model": {**model, "versionDescription": "by hand"}}
    vertex.client.wait(vertex.client.send(f"{vertex.config.parent}/models:upload", body))
    vertex.registry.promote(vertex.version(1), "because")
    champion = vertex.registry.find()
    assert (champion.number, champion.uri, champion.key) == (1, "gs://elsewhere/model", "")
    assert vertex.registry.upload(an_upload()).number == 2


def test_reason_of_a_promotion_is_kept_with_the_version(vertex: Vertex) -> None:
    vertex.with_versions(2)
    for number, reason in ((1, "first"), (2, "better"), (1, "rolled back")):
        vertex.registry.promote(vertex.version(number), reason)
    description = vertex.client.get(f"{vertex.config.parent}/models/ships@1")["versionDescription"]
    assert json.loads(description)["promotions"] == {"1": "first", "3": "rolled back"}
    assert vertex.version(1).key == "run-1"


def test_promoting_the_champion_again_changes_nothing(vertex: Vertex) -> None:
    vertex.with_versions(1)
    for _ in range(3):
        vertex.registry.promote(vertex.version(1), "because")
    assert vertex.server.count("PATCH|mergeVersionAliases") == 2


@pytest.mark.parametrize("fault", [{"status": 500}, {"drop": "before"}, {"drop": "after"}])
def test_promotion_counts_once_over_any_failure(vertex: Vertex, fault: dict[str, Any]) -> None:
    vertex.with_versions(2)
    vertex.registry.promote(vertex.version(1), "first")
    vertex.server.fail_next("POST .*mergeVersionAliases", times=2, **fault)
    vertex.registry.promote(vertex.version(2), "better")
    assert vertex.registry.find().number == 2
    assert vertex.client.get(f"{vertex.config.parent}/models/ships@2")["versionAliases"] == ["champion", "champion-2"]


def test_champion_that_was_deleted_is_an_error_until_another_is_promoted(vertex: Vertex) -> None:
    vertex.with_versions(3)
    for number in (1, 2):
        vertex.registry.promote(vertex.version(number), "because")
    vertex.client.wait(vertex.client.change("DELETE", f"{vertex.config.parent}/models/ships@2:deleteVersion"))
    with pytest.raises(NoSuchModel, match=r"has the alias 'champion' any more \(versions 1 had it\)"):
        vertex.registry.champion()
    vertex.registry.promote(vertex.version(3), "because")
    assert vertex.registry.find().number == 3


def aliases(vertex: Vertex, number: int) -> list[str]:
    found = vertex.client.get(f"{vertex.config.parent}/models/ships@{number}")["versionAliases"]
    return [alias for alias in found if alias != "default"]


def test_candidate_has_its_alias_until_it_is_promoted_or_dropped(vertex: Vertex) -> None:
    vertex.with_versions(4)
    vertex.registry.promote(vertex.version(1), "first")
    for number in (2, 3):
        vertex.registry.mark(vertex.version(number), Standing.CANDIDATE, "undecided")
        assert aliases(vertex, number) == ["candidate"]
    assert aliases(vertex, 2) == []
    vertex.registry.promote(vertex.version(3), "better")
    assert aliases(vertex, 3) == ["champion", "champion-2"]
    vertex.registry.mark(vertex.version(4), Standing.REFUSED, "worse")
    assert aliases(vertex, 4) == []


@pytest.mark.parametrize("fault", [{"status": 500}, {"drop": "before"}, {"drop": "after"}])
@pytest.mark.parametrize("request_", ["PATCH", "POST .*mergeVersionAliases"])
def test_standing_is_recorded_once_over_any_failure(vertex: Vertex, request_: str, fault: dict[str, Any]) -> None:
    vertex.with_versions(2)
    vertex.registry.mark(vertex.version(1), Standing.CANDIDATE, "undecided")
    vertex.server.fail_next(request_, times=2, **fault)
    vertex.registry.mark(vertex.version(2), Standing.CANDIDATE, "undecided, too")
    records = [(record.version, record.standing) for record in vertex.registry.standings()]
    assert records == [(1, "candidate"), (2, "candidate"), (1, "dropped")]
    assert (aliases(vertex, 1), aliases(vertex, 2)) == ([], ["candidate"])


@pytest.mark.parametrize("writes", [1, 2, 3])
def test_mark_cut_off_after_any_request_is_completed_by_its_repetition(
    vertex: Vertex, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    vertex.with_versions(2)
    vertex.registry.mark(vertex.version(1), Standing.CANDIDATE, "undecided")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(VertexClient, "_sent", at_write(writes, after=_interrupted))
        vertex.registry.mark(vertex.version(2), Standing.CANDIDATE, "undecided, too")
    vertex.registry.mark(vertex.version(2), Standing.CANDIDATE, "undecided, too")
    records = [(record.version, record.standing) for record in vertex.registry.standings()]
    assert records == [(1, "candidate"), (2, "candidate"), (1, "dropped")]
    assert (aliases(vertex, 1), aliases(vertex, 2)) == ([], ["candidate"])


def test_standing_of_another_writer_is_kept(vertex: Vertex, monkeypatch: pytest.MonkeyPatch) -> None:
    version = vertex.with_versions(1).version(1)
    with monkeypatch.context() as patch:
        other = at_write(1, before=lambda: vertex.registry.mark(version, Standing.WAITING, "better"))
        patch.setattr(VertexClient, "_sent", other)
        vertex.registry.mark(version, Standing.REJECTED, "by a person")
    records = [(record.standing, record.reason) for record in vertex.registry.standings()]
    assert records == [("waiting for approval", "better"), ("rejected", "by a person")]


def test_concurrent_marks_and_promotions_are_all_kept(vertex: Vertex) -> None:
    version = vertex.with_versions(1).version(1)
    tasks = [lambda: vertex.registry.promote(version, "better")]
    tasks += [lambda: vertex.registry.mark(version, Standing.WAITING, "better")]
    tasks += [lambda: vertex.registry.mark(version, Standing.REFUSED, "no champion to beat")]
    with ThreadPoolExecutor(3) as pool:
        for each in [pool.submit(task) for task in tasks]:
            each.result()
    assert [promotion.reason for promotion in vertex.registry.promotions()] == ["better"]
    reasons = {record.reason for record in vertex.registry.standings()}
    assert reasons <= {"better", "no champion to beat"}
    assert vertex.server.count("PATCH") >= len(reasons) + 1


def test_model_of_another_name_is_not_forgotten(vertex: Vertex) -> None:
    vertex.serving_versions(1)
    renamed = connect(replace(vertex.config, name="boats"))
    for ask in (renamed.registry.champion, renamed.registry.find, lambda: renamed.registry.upload(an_upload("new"))):
        with pytest.raises(NoSuchModel, match=r"no model boats, but the files of ships .* vertex\.model .* to 'ships'"):
            ask()
    kept = connect(replace(vertex.config, name="boats", model="ships", endpoint="ships"))
    assert kept.registry.find().number == 1
    assert kept.endpoint.serving() == [1]
    assert connect(replace(vertex.config, name="boats", root="gs://bucket/boats")).registry.champion() is None


def test_model_made_during_a_lookup_is_no_other_name(vertex: Vertex, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another upload makes the model after the question for its name, and before the one for all models."""
    client = vertex.client
    monkeypatch.setattr(client, "named", lambda *_: vertex.with_versions(1) and None)
    assert VertexRegistry(client).champion() is None


def _interrupted() -> None:
    raise KeyboardInterrupt


def test_alias_moved_by_hand_counts_as_the_last_promotion(vertex: Vertex) -> None:
    vertex.with_versions(3)
    for number in (1, 2):
        vertex.registry.promote(vertex.version(number), "because")
    name = f"{vertex.config.parent}/models/ships@3:mergeVersionAliases"
    vertex.client.change("POST", name, {"versionAliases": ["champion"]})
    assert vertex.registry.predecessor().number == 2


def test_concurrent_first_uploads_make_one_model_with_a_version_each(vertex: Vertex) -> None:
    uploads = [an_upload(f"run-{number}") for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda upload: vertex.registry.upload(upload), uploads))
    assert len(list(vertex.client.list(f"{vertex.config.parent}/models", "models"))) == 1
    assert sorted(version.key for version in vertex.registry.versions()) == [upload.key for upload in uploads]


def test_concurrent_uploads_of_one_key_leave_one_version(vertex: Vertex) -> None:
    vertex.with_versions(1)
    upload = an_upload("new")
    with ThreadPoolExecutor(4) as pool:
        numbers = set(pool.map(lambda _: vertex.registry.upload(upload).number, range(4)))
    assert numbers == {2}
    assert [version.number for version in vertex.registry.versions()] == [1, 2]


def test_second_upload_of_a_key_deletes_its_own_version(vertex: Vertex, monkeypatch: pytest.MonkeyPatch) -> None:
    vertex.with_versions(1)
    upload = an_upload("new")
    monkeypatch.setattr(VertexClient, "_sent", at_write(1, before=lambda: vertex.registry.upload(upload)))
    assert vertex.registry.upload(upload).number == 2
    assert vertex.server.count("POST .*:upload") == 3
    assert [version.number for version in vertex.registry.versions()] == [1, 2]
