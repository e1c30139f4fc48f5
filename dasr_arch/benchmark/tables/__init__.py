"""Tables of results: the data model, file formats and merging."""
