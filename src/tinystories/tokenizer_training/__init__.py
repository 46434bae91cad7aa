"""Stage `train_tokenizer`."""
