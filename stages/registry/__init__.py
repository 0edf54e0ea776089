"""The registered model in MLflow. Start with gate.py (pure rules), register.py, promotion.py. Imports no torch."""
