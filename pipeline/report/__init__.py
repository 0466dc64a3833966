"""The report on a workspace: what is recorded of it, as one value (`content`), and that value as a page (`page`)."""
