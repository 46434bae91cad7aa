"""The library's public functions, as docs/api.md describes them. `tinystories` itself passes their names on."""
