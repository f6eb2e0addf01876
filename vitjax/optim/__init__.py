"""Optimizers by name and by parameter group, and schedules."""
