"""Controlled artefacts: known damage to clean talking-face video (SPEC section 10)."""
