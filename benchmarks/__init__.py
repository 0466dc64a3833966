"""How fast it is: every figure a ratio against a baseline that is measured in the same run. See README.md."""
