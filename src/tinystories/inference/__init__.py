"""What a trained model does: generate text, compute the loss of a token file."""
