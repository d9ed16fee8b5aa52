"""Where a run is reported to besides its own folder."""
