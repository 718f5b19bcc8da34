"""Files that people write: located YAML, read into typed values, every error at once and in its place."""
