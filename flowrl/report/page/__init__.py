"""``flowrl report``: an experiment as one page that opens from disk and asks the network for nothing."""
