"""What knows nothing of machine learning: errors, registries, validation, files, names, text."""
