"""Shortcuts for inputs that are one-hot: what is 0 in a first layer is neither read nor computed."""
