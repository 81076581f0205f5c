"""Another project by the name of smac, which searches settings."""
