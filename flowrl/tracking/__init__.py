"""Where a run is reported besides its own folder."""
