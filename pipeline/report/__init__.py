"""The report on a workspace: what is recorded of it, as one value (`facts`), and that value as a page (`page`)."""
