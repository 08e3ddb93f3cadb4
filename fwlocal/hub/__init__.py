"""The network: Hugging Face's Hub and the package index. What comes is whole and verified."""
