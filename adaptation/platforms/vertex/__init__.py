"""Vertex AI over REST, without its SDK: jobs, predictor, registry and endpoint have a file each; `client` sends."""
