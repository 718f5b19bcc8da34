"""The words of the product and what they mean: pure, no I/O, no clock, no randomness."""
