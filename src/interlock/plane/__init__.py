"""The use cases: what happens to a call, a run, an approval, an agent. Start reading at `enforce`."""
