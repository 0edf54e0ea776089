"""How well plans drive: open-loop protocols of the literature, and the scores of a whole evaluation split.

Start with base.py (the contract of a protocol); one file per protocol (omnidrive.py is the paper's). scoring.py makes
the numbers of samples and of tables, truths.py looks up what was driven, samples.py says which samples count.
"""
