"""Training on accelerate: the protector (Algorithm 1)."""
