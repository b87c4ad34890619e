"""The routes, one file for each family; every endpoint declares who may ask (`serve.access`)."""
