"""The journal: what happened, as leaves whose exact bytes are stored."""
