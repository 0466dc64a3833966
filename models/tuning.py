"""`tuner_fn`, which TFX's Tuner calls: the recipe's tuner tries values of its training settings and options."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

import keras
from tfx.components.tuner.component import TunerFnResult

from models.recipe import changed, load_recipe
from models.trainer import FnArgs, computing, read_batches, requested_spec, trainable


def tuner_fn(fn_args: FnArgs) -> TunerFnResult:
    """Return the recipe's tuner and the data of a trial; TFX's Tuner runs it and records the best values."""
    spec = requested_spec(fn_args)
    keras.utils.set_random_seed(spec.seed)
    training, evaluation, _ = read_batches(fn_args, spec)

    def trial(**values: Any) -> keras.Model:
        """Return a model to train, built and compiled with some settings changed."""
        tried = changed(spec, values)
        with computing(tried.precision):
            return trainable(load_recipe(spec.model).build_model(tried), tried, len(training), training.element_spec[0])

    folder = tempfile.mkdtemp(prefix="tuner-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tuner = load_recipe(spec.model).tuner(trial, spec, folder)
    fit: Mapping[str, Any] = {"validation_data": evaluation, "epochs": spec.epochs, "shuffle": False, "verbose": 0}
    return TunerFnResult(tuner, {"x": training, **fit})
