"""The settings: schema, layers, validation, the shipped default."""
