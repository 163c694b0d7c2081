"""How work is laid out on Ray: corpus -> stages -> shards."""
