"""Starts the processes of a run: on this machine, as a job of Slurm, or by Ray Train."""
