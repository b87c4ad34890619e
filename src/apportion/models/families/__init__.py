"""One file per model family; the file's name is the family's name. See docs/add-a-model-family.md."""
