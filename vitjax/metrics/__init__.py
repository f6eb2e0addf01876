"""Metrics, merged exactly over batches, devices, hosts and padding."""
