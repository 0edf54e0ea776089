"""Training of the committed small driver (models/driver): a vision tower first, then a language model on top of it.

Start with stages/train_driver.py: pool (drawn images), tower_phase, dataset (encoded pool), language_phase,
evaluation on held-out scenes, checkpoint. The stage takes 80 minutes and is frozen in dvc.yaml.
"""
