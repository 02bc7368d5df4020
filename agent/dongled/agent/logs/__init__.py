"""The log: journald's own fields where the journal listens, readable lines anywhere else."""
