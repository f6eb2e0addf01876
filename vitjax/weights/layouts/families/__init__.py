"""The layouts of families of convolutional networks, one file per family.

Each module has a tuple ``LAYOUTS``, and is found by being here.
"""
