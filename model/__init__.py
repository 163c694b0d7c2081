"""Mathematics on tensors: no I/O, no Ray, no media libraries."""
