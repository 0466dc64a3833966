"""A selection is the spans of a window, and its digest says when their content is not what was meant."""

from __future__ import annotations

import pytest

from adaptation.data.selection import MixedLabels, SpansChanged, select
from adaptation.data.spans import CorruptSpan, Span, SpanNotPublished, SpanStore, content_digest
from adaptation.data.windows import InvalidWindow
from adaptation.io.storage import join, write
from tests.worlds.images_and_spans import published


@pytest.fixture
def store(root: str) -> SpanStore:
    return SpanStore(root)


def test_a_window_selects_its_spans_oldest_first(store: SpanStore) -> None:
    manifests = [published(store) for _ in range(11)]
    selection = select(store.root, "11,9-10,1")
    assert selection.spans == (Span(1), Span(9), Span(10), Span(11))
    assert selection.window == "1,9-11"
    assert selection.labels == ("cat", "ship")
    assert selection.digest == content_digest(manifests[number - 1] for number in (1, 9, 10, 11))


def test_all_selects_what_is_published_now(store: SpanStore) -> None:
    published(store)
    write(join(store.root, "span-2", "train", "a.tfrecord"), b"")
    before = select(store.root, "all")
    assert before.spans == (Span(1),)
    published(store)
    after = select(store.root, "all")
    assert after.spans == (Span(1), Span(3))
    assert after.digest != before.digest


def test_the_digest_that_was_meant_is_accepted_and_another_refused(store: SpanStore) -> None:
    published(store)
    selection = select(store.root, "all")
    assert select(store.root, "1", selection.digest) == selection
    published(store)
    with pytest.raises(
        SpansChanged, match=f"the spans 1-2 have the digest .{{12}}, but {selection.digest[:12]} was asked"
    ):
        select(store.root, "all", selection.digest)


def test_spans_with_other_labels_are_not_mixed(store: SpanStore) -> None:
    published(store)
    published(store, names=("ship", "cat"))
    with pytest.raises(MixedLabels, match=r"span-2 has the labels ship, cat, span-1 has cat, ship\. Choose a window"):
        select(store.root, "all")
    assert select(store.root, "last:1").labels == ("ship", "cat")


def test_spans_with_other_labels_than_the_model_is_to_speak_of_are_refused(store: SpanStore) -> None:
    published(store)
    assert select(store.root, "all", labels=("cat", "ship")).window == "1"
    with pytest.raises(MixedLabels, match="the spans 1 have the labels cat, ship, the settings name ship, cat"):
        select(store.root, "all", labels=("ship", "cat"))


def test_what_is_wrong_with_a_window_is_told(store: SpanStore) -> None:
    with pytest.raises(SpanNotPublished):
        select(store.root, "all")
    published(store)
    with pytest.raises(SpanNotPublished, match="span 2 of window 1-2 is not published"):
        select(store.root, "1-2")
    with pytest.raises(InvalidWindow):
        select(store.root, "newest")


def test_a_span_whose_manifest_was_changed_is_not_selected(store: SpanStore) -> None:
    manifest = published(store)
    write(join(store.folder(Span(1)), "manifest.json"), manifest.to_json().replace(b'"ship": 2', b'"ship": 3'))
    with pytest.raises(CorruptSpan):
        select(store.root, "all")
