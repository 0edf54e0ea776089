"""Training of the committed small driver (models/driver): a vision tower first, then a language model on top of it.

tower_phase trains on the pool of drawn images, then language_phase on the encoded pool, both by trainer's loop.
evaluation.py measures on held-out scenes, checkpoint.py writes the model. Takes 80 minutes, frozen in dvc.yaml.
"""
