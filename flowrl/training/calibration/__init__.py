"""How fast this machine trains when several trainings run at once: `python -m flowrl.training.calibration`."""
