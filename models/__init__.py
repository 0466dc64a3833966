"""What a data scientist edits: the models, what goes into them, how they are trained and what they are exported as.

`spec` says what is trained and imports nothing heavy. `data` turns records into batches; `digits`, `cifar` and
`resnet50` each have a `build_model`; `trainer` holds the `run_fn` that TFX's Trainer calls; `export` writes the
SavedModel. A model of one's own is any importable module with `build_model(spec)`, named by its path in the settings.
"""
