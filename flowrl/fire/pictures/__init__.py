"""Maps of landscapes, fires and breaks."""
