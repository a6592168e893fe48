"""Takes of one wearer in, a personal head out."""
