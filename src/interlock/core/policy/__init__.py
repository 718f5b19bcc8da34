"""From policy files to a decision: load, resolve, compile to Cedar, decide, explain."""
