"""Methods that choose which visual tokens stay: one file each, its name the key in params.

Start with `base` (the contract) and `view` (all that a method may look at); `row_prior` is the shortest method, `recon`
the paper's. A new file with a class `Pruner` is found, tested and priced by existing.
"""
