"""Layers that several model families share; one layer or one family of layers per file."""
