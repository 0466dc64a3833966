"""Figures and decisions: prediction results, confusion, accuracy, the gate."""
