"""Models: their inputs, training and export.

`recipe` has the one class that a data scientist overrides, `recipes` those that come with the package, `spec` the
training spec; none of these imports TensorFlow. `data` turns records into batches; `trainer`, `transform` and `tuning`
hold the functions that TFX's Trainer, Transform and Tuner call; `export` writes the SavedModel.
"""
