"""How to wait: the only modules, with the workers, that know event loops and threads."""
