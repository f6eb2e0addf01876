"""Downloads of weights."""
