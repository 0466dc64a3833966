"""Windows: a window selects exactly the spans that it names, with ten spans and more too."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptation.data.spans import CorruptSpan, Span, SpanNotPublished, SpanStore, content_digest
from adaptation.data.windows import InvalidWindow, Window, select, span_pattern
from adaptation.io.storage import join, write
from tests.worlds.spans import published

TWELVE = [Span(number) for number in range(1, 13)]


def resolve(text: str, published: list[Span] = TWELVE) -> list[int]:
    return [span.number for span in Window.parse(text).resolve(published)]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("all", list(range(1, 13))),
        ("last:1", [12]),
        ("last:2", [11, 12]),
        ("last:4", [9, 10, 11, 12]),
        ("last:99", list(range(1, 13))),
        ("10", [10]),
        ("9-10", [9, 10]),
        ("1,10,11", [1, 10, 11]),
        ("1,3,9-11", [1, 3, 9, 10, 11]),
        ("11,1,10", [1, 10, 11]),
        ("3-5,4-6,5", [3, 4, 5, 6]),
        (" 1 , 3-4 ", [1, 3, 4]),
    ],
)
def test_window_resolves_to_these_spans(text: str, numbers: list[int]) -> None:
    assert resolve(text) == numbers


def test_last_two_of_ten_spans_are_9_and_10() -> None:
    assert resolve("last:2", [Span(number) for number in (10, 1, 9, 2)]) == [9, 10]


def test_last_counts_published_spans_not_numbers() -> None:
    assert resolve("last:2", [Span(1), Span(4), Span(9)]) == [4, 9]


@pytest.mark.parametrize(
    "text",
    ["", "none", "ALL", "last", "last:0", "last:-1", "last:", "last:x", "0", "-1", "1-", "3-1", "1,,2", "1;2", "1 2"]
    + ["span-1", "[1-3]", "1-1000000", "1" * 5000, "last:" + "9" * 5000, "1٣", "1.5"],
)
def test_invalid_window_is_refused_with_examples(text: str) -> None:
    with pytest.raises(InvalidWindow, match='is no window. Write "all", "last:2", or span numbers like "1,3,9-11"'):
        Window.parse(text)


@given(st.sets(st.integers(1, 200), min_size=1))
def test_window_of_numbers_parses_what_it_prints(numbers: set[int]) -> None:
    window = Window(numbers=tuple(sorted(numbers)))
    assert Window.parse(str(window)) == window


@pytest.mark.parametrize("text", ["all", "last:3"])
def test_window_all_and_last_parse_what_they_print(text: str) -> None:
    assert str(Window.parse(text)) == text


def test_unpublished_span_is_named_with_the_published_ones() -> None:
    with pytest.raises(SpanNotPublished, match=r"span 2,4-5 of window 1-5 is not published \(published: 1,3\)"):
        resolve("1-5", [Span(1), Span(3)])


def test_long_range_of_missing_spans_makes_a_short_message() -> None:
    with pytest.raises(SpanNotPublished) as caught:
        resolve("1-100000", [Span(1)])
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["all", "last:2", "1"])
def test_window_without_any_published_span_is_refused(text: str) -> None:
    with pytest.raises(SpanNotPublished, match='no span is published yet. Run "adapt init"'):
        resolve(text, [])


# Patterns


@pytest.mark.parametrize(
    ("numbers", "pattern"),
    [
        ([7], "span-7"),
        ([1, 2, 3], "span-[123]"),
        ([10, 12], "span-1[02]"),
        ([10, 11, 20, 21], "span-[12][01]"),
        (list(range(1, 13)), "span-*"),
    ],
)
def test_pattern_selects_exactly_the_spans(numbers: list[int], pattern: str) -> None:
    chosen = [Span(number) for number in numbers]
    assert span_pattern(chosen, [*TWELVE, Span(20), Span(21)] if numbers != list(range(1, 13)) else TWELVE) == pattern


@pytest.mark.parametrize("numbers", [[9, 10], [9, 10, 11], [1, 10, 11], [10, 21]])
def test_spans_that_no_pattern_selects_are_refused_with_the_remedy(numbers: list[int]) -> None:
    chosen = [Span(number) for number in numbers]
    with pytest.raises(InvalidWindow, match='exactly the spans .* Set training.ingestion = "spans"'):
        span_pattern(chosen, [*TWELVE, Span(21)])


@given(st.sets(st.integers(1, 40), min_size=1), st.sets(st.integers(1, 40)))
def test_pattern_matches_all_chosen_spans_and_no_other(numbers: set[int], others: set[int]) -> None:
    chosen = [Span(number) for number in sorted(numbers)]
    there = {*chosen, *(Span(number) for number in others)}
    try:
        pattern = span_pattern(chosen, there)
    except InvalidWindow:
        assert len(chosen) > 1
        return
    assert [span for span in sorted(there) if fnmatchcase(str(span), pattern)] == chosen


@pytest.fixture
def store(root: str) -> SpanStore:
    return SpanStore(root)


def test_window_selects_its_spans_oldest_first(store: SpanStore) -> None:
    manifests = [published(store) for _ in range(11)]
    selection = select(store.root, "11,9-10,1")
    assert selection.spans == (Span(1), Span(9), Span(10), Span(11))
    assert selection.window == "1,9-11"
    assert selection.labels == ("cat", "ship")
    assert selection.digest == content_digest(manifests[number - 1] for number in (1, 9, 10, 11))


def test_window_all_selects_what_is_published_now(store: SpanStore) -> None:
    published(store)
    write(join(store.root, "span-2", "train", "a.tfrecord"), b"")
    before = select(store.root, "all")
    assert before.spans == (Span(1),)
    published(store)
    after = select(store.root, "all")
    assert after.spans == (Span(1), Span(3))
    assert after.digest != before.digest


def test_selection_with_another_digest_is_refused(store: SpanStore) -> None:
    published(store)
    selection = select(store.root, "all")
    assert select(store.root, "1", selection.digest) == selection
    published(store)
    with pytest.raises(
        InvalidWindow, match=f"the spans 1-2 have the digest .{{12}}, but {selection.digest[:12]} was requested"
    ):
        select(store.root, "all", selection.digest)


def test_window_may_mix_spans_before_and_after_an_appended_class(store: SpanStore) -> None:
    manifests = [published(store), published(store, names=("cat", "ship", "ox")), published(store)]
    selection = select(store.root, "all", labels=("cat", "ship", "ox"))
    assert selection.labels == ("cat", "ship", "ox")
    assert selection.window == "1-3"
    assert selection.digest == content_digest(manifests)


def test_window_of_earlier_spans_stays_valid_after_an_appended_class(store: SpanStore) -> None:
    manifest = published(store)
    published(store, names=("cat", "ship", "ox"))
    selection = select(store.root, "1", content_digest([manifest]), ("cat", "ship", "ox"))
    assert selection.labels == ("cat", "ship")


@pytest.mark.parametrize(
    ("names", "change"),
    [
        (("ship", "cat"), "label 0 was 'ship' and is 'cat'"),
        (("ant", "cat", "ship"), "label 0 was 'cat' and is 'ant'"),
        (("cat", "ox"), "label 1 was 'ox' and is 'ship'"),
    ],
    ids=["moved", "inserted", "replaced"],
)
def test_spans_with_conflicting_labels_are_not_mixed(store: SpanStore, names: tuple[str, ...], change: str) -> None:
    published(store)
    published(store, names=names)
    with pytest.raises(InvalidWindow, match=rf"span-[12] and span-[12] do not name the labels alike: {change}\."):
        select(store.root, "all")
    assert select(store.root, "last:1").labels == names


@pytest.mark.parametrize(
    ("names", "change"),
    [
        (("ship", "cat"), "label 0 was 'cat' and is 'ship'"),
        (("cat", "ant", "ship"), "label 1 was 'ship' and is 'ant'"),
        (("cat",), "label 1 was 'ship' and is missing"),
    ],
    ids=["moved", "inserted", "removed"],
)
def test_settings_whose_labels_conflict_with_the_spans_are_refused(
    store: SpanStore, names: tuple[str, ...], change: str
) -> None:
    published(store)
    assert select(store.root, "all", labels=("cat", "ship")).window == "1"
    with pytest.raises(InvalidWindow, match=rf"the spans 1 do: {change}\. Set labels.names to cat, ship; append"):
        select(store.root, "all", labels=names)


def test_selection_reports_missing_spans_and_invalid_windows(store: SpanStore) -> None:
    with pytest.raises(SpanNotPublished):
        select(store.root, "all")
    published(store)
    with pytest.raises(SpanNotPublished, match="span 2 of window 1-2 is not published"):
        select(store.root, "1-2")
    with pytest.raises(InvalidWindow):
        select(store.root, "newest")


def test_span_with_a_changed_manifest_is_not_selected(store: SpanStore) -> None:
    manifest = published(store)
    write(join(store.folder(Span(1)), "manifest.json"), manifest.to_json().replace(b'"ship": 2', b'"ship": 3'))
    with pytest.raises(CorruptSpan):
        select(store.root, "all")
