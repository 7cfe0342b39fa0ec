"""The command line: sweeps, resuming, launchers, workers and the status of a run."""
