"""Learning SyncNet from raw video, see ``pipelines/train_sync.py``."""
