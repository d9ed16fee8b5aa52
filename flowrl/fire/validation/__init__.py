"""Simulated fires beside fires that happened."""
