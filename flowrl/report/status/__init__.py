"""``flowrl status``: an experiment as it stands, on one screen, as JSON, or refreshed in place."""
