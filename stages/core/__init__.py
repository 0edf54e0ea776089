"""What every package uses. Start with params.py, io.py and command.py. Imports no other package of stages."""
