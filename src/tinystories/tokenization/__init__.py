"""The tokenizer and the token files, as every stage reads them."""
