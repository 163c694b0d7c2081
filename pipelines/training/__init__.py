"""Training, in parts; the chain that joins them is pipelines/train.py."""
