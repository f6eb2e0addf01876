"""The references of the families of convolutional networks, one file per family.

Each module has ``MEMBERS`` and ``CASES``, see `scripts.parity.family`.
"""
