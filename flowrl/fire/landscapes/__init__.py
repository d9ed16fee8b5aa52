"""What can burn: landscapes read from layers, or made."""
