"""Shortcuts for one-hot inputs: what is 0 in a first layer is neither read nor computed."""
