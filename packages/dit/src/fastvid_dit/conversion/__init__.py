"""Key maps between our models and foreign checkpoints, one file per source."""
