"""One primitive a file. They do not know one another."""
