"""Looking into networks: activations, probes."""
