"""One frozen settings tree from one YAML file, and the reading of the policies folder."""
