"""A second reading of the meaning of policy, written from the specification alone."""
