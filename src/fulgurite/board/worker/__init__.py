"""Processes beside the server that load torch: one plans runs, one answers as a trained model."""
