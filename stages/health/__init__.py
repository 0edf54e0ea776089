"""What may be wrong with a machine or a checkout before anything runs, found without importing anything heavy."""
