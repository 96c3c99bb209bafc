"""Bytes that stay on the disk: durable writes, checkpoints, the folder of a run."""
