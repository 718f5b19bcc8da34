"""The composition root: the only room that knows every adapter, and the process that runs them."""
