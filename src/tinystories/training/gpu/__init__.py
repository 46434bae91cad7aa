"""The training step on an NVIDIA GPU, in Triton and CUDA graphs."""
