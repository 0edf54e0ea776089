"""Open-loop protocols, a file each, and the scores of a split. Start with base.py (the contract), then scoring.py."""
