"""flowrl: skills proposed as code, trained as experts, merged into a growing library."""

__version__ = "0.1.0"
