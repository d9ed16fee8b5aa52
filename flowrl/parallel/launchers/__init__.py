"""Engines that start runs and report their status."""
