"""The trainer: state, step, optimizers, devices, checkpoints, logs and the loop."""
