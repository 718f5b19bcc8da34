"""What several suites of tests build their worlds from."""
