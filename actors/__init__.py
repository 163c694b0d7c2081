"""Workers: plain classes, weights loaded in ``__init__``, batch in, batch out; no Ray import."""
