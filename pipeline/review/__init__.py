"""Review of labels by people."""
