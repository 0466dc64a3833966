"""Continuous adaptation: spans, batches, evaluation, trigger and platforms, without TensorFlow or TFX."""
