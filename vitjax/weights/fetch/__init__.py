"""Where weights come from: the Hugging Face hub, https, the cache."""
