"""One check, one file: `check(root)` yields what it found in the checkout `root`; `fix(root)`, where there is one, does
what cannot lose anything and yields a line for each thing it did.
"""
