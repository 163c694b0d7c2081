"""From clean videos to corpora of known damage."""
