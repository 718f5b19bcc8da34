"""Keys, tokens, sealing: who somebody is, and what only the deployment can read."""
