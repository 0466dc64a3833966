"""The garbage collector is away while very much is made, and back afterwards."""

from __future__ import annotations

import gc

import pytest

from adaptation.io.collector import collector_at_rest


def test_it_rests_in_the_context_and_works_after_it() -> None:
    with collector_at_rest():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_works_again_after_an_error() -> None:
    with pytest.raises(ImportError), collector_at_rest():
        raise ImportError
    assert gc.isenabled()


def test_an_inner_context_does_not_wake_it_for_the_outer_one() -> None:
    with collector_at_rest():
        with collector_at_rest():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
