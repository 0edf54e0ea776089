"""Training of the committed small driver (models/driver): a vision tower first, then a language model on top of it.

Start with trainer.py: it trains tower_phase on the pool of drawn images, then language_phase on the encoded pool
(dataset). evaluation.py measures it on held-out scenes, checkpoint.py writes it. Takes 80 minutes, frozen in dvc.yaml.
"""
