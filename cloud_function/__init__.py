"""The deployable Cloud Function; `main` is all of it. It imports `adaptation` only, which is deployed beside it."""
