"""TFX components of continuous adaptation, one a file; each is a shell over functions of `adaptation`."""
